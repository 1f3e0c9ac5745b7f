//! Words of the command line that are no names: times, states, kinds.

use std::time::Duration;

use decnet_lifecycle::{FailureKind, Operation, Status, Timestamp};

/// A time, as it was written.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So long before now.
    Ago(Duration),
    At(Timestamp),
}

impl Moment {
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.minus(ago),
            Self::At(at) => at,
        }
    }
}

/// `12h`, a date, or a time; in UTC where no offset is written.
pub fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(ago) = age(text) {
        return Ok(Moment::Ago(ago));
    }
    let tries = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    let at = tries.iter().find_map(|text| text.parse().ok());
    at.map(Moment::At).ok_or_else(|| "a time is written like 12h, 2026-11-24 or 2026-11-24T09:00".to_owned())
}

pub fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "an age is a number and s, m, h or d, such as 12h".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number =
        text.get(..text.len() - 1).and_then(|number| number.parse::<u32>().ok()).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

pub fn status(text: &str) -> Result<Status, String> {
    let all = [Status::Pending, Status::Running, Status::Succeeded, Status::Failed];
    all.into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| "a status is pending, running, succeeded or failed".to_owned())
}

pub fn operation(text: &str) -> Result<Operation, String> {
    let all = [Operation::Deploy, Operation::Mutate, Operation::Teardown];
    all.into_iter()
        .find(|operation| operation.as_str() == text)
        .ok_or_else(|| "an operation is deploy, mutate or teardown".to_owned())
}

pub fn kind(text: &str) -> Result<FailureKind, String> {
    let named = FailureKind::ALL.iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text));
    named.copied().ok_or_else(|| {
        let all: Vec<&str> = FailureKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("a kind of failure is one of {}", all.join(", "))
    })
}
