//! The names of images that are built.

use sha2::{Digest as _, Sha256};

use super::settings::DockerName;
use super::text::Text;

/// A name for the image of what a compose file has under this key, where the
/// tool's own, `PROJECT_KEY` or `PROJECT-KEY`, would be none. Images are named
/// in lower case, with one `.`, one or two `_`, or some `-` between words.
pub(super) fn needed(project: &DockerName, key: &str) -> Option<Text> {
    if is_good(key) {
        return None;
    }
    let mut words: Vec<String> = [project.as_str(), key]
        .into_iter()
        .flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    // What was lost is in here, so that no two keys share an image.
    let digest = Sha256::digest(key.as_bytes());
    words.push(digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect());
    Some(Text::own(words.join("-")))
}

fn is_good(key: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separates =
        |gap: &str| matches!(gap, "_" | "__") || (!gap.is_empty() && gap.chars().all(|c| c == '-'));
    let in_word = |c: char| !matches!(c, '-' | '_');
    let mut rest = key;
    loop {
        let (word, after) = rest.split_at(rest.find(|c| !in_word(c)).unwrap_or(rest.len()));
        if !is_word(word) {
            return false;
        }
        if after.is_empty() {
            return true;
        }
        let (gap, next) = after.split_at(after.find(in_word).unwrap_or(after.len()));
        if !separates(gap) {
            return false;
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_image_may_have_are_replaced() {
        let project = DockerName::parse("decnet").unwrap();
        for good in ["decky-01-ssh", "a--b-ssh", "a__b-docker_api", "0"] {
            assert_eq!(needed(&project, good), None, "{good}");
        }
        let mut made = std::collections::BTreeSet::new();
        for bad in ["DC01-ssh", "dc01-SSH", "a_-ssh", "a___b-ssh", "a-_b-ssh", "web_", "web-", "A-ssh"] {
            let image = needed(&project, bad).unwrap();
            assert!(is_good(image.as_str()), "{image:?}");
            assert!(made.insert(image), "{bad}");
        }
    }
}
