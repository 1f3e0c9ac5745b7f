//! Replays the committed corpora of the fuzz targets, and some noise.

use std::path::Path;

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

#[test]
fn every_committed_input_still_passes() {
    for (name, body) in bodies::ALL {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() > 5, "{} holds {} inputs", dir.display(), files.len());
        for file in files {
            let data = std::fs::read(&file).unwrap();
            if let Some(said) = panics(body, &data) {
                fail(&format!("{} fails: {said}", file.display()));
            }
        }
    }
}

#[test]
fn noise_passes() {
    let mut random = fastrand::Rng::with_seed(3);
    for (name, body) in bodies::ALL {
        for length in 0..200 {
            let data: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length * 3).collect();
            if let Some(said) = panics(body, &data) {
                fail(&format!("{name} fails: {said}; with {data:?}"));
            }
        }
    }
}

/// Some bodies silence what panics say: it is said here.
fn fail(why: &str) -> ! {
    println!("{why}");
    panic!("{why}");
}

/// What a body's panic says, if it does.
fn panics(body: fn(&[u8]), data: &[u8]) -> Option<String> {
    let panic = std::panic::catch_unwind(|| body(data)).err()?;
    let text = panic.downcast_ref::<String>().map(String::as_str);
    Some(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned())
}
