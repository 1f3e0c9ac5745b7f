//! Measures what the documentation says of speed, as ratios within one run,
//! and prints it as Markdown: `cargo bench --features cli,testkit --bench report`.

mod by_hand;
mod compose;
mod deploy;
mod dispatch;
mod files;
mod journal;
mod peers;
mod reads;
mod rows;
mod swarm;

use std::time::{Duration, Instant};

fn main() {
    if files::is_child() {
        return files::child();
    }
    if peers::is_child() {
        return peers::child();
    }
    // `--test` is what `cargo test --benches` asks for: a look that it runs.
    let quick = std::env::args().any(|argument| argument == "--test") || std::env::var_os("QUICK").is_some();
    println!("# Measurements\n");
    println!("`cargo bench --features cli,testkit --bench report > docs/MEASUREMENTS.md`\n");
    println!(
        "{} cores; files in the system's temporary directory. Times are this machine's, the ratios are what to look at.\n",
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
    );
    let parts: [(&str, Report); 7] = [
        ("journal", journal::report),
        ("deploy", deploy::report),
        ("dispatch", dispatch::report),
        ("swarm", swarm::report),
        ("reads", reads::report),
        ("peers", peers::report),
        ("compose", compose::report),
    ];
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, report) in parts {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            report(quick);
        }
    }
}

/// Prints one part, at full size or just to see that it runs.
type Report = fn(bool);

/// How long something takes.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed(), done)
}

/// The middle of some times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// So many a second, in words.
fn rate(number: usize, time: Duration) -> String {
    let rate = number as f64 / time.as_secs_f64();
    if rate >= 10_000.0 { format!("{:.0}k", rate / 1_000.0) } else { format!("{rate:.0}") }
}

fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..10_000.0 => format!("{micros:.0} µs"),
        ..10_000_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}
