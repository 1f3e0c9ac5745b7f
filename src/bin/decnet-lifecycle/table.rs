//! Rows as a table, a line each, as wide as the terminal.

use std::collections::BTreeSet;

use decnet_lifecycle::lifecycle::text::one_line;
use decnet_lifecycle::{
    Failure, Record, Timestamp,
    clock::{Clock as _, SystemClock},
};

use crate::place::Place;

/// The most characters of what a row says.
const DETAIL: usize = 4_000;
/// The most of a name where room is short, and of the end of an id.
const NAME: usize = 20;
const ID: usize = 8;

/// How wide a table may be.
#[derive(Debug, Clone, Copy)]
pub enum Width {
    /// As wide as the terminal; where there is none, as wide as it gets.
    Terminal,
    /// As wide as it gets, with whole ids and times.
    Whole,
}

/// The columns of the terminal, or those that `COLUMNS` says.
pub fn columns() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|said| said.parse().ok()).filter(|said| *said > 0);
    said.or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
}

/// The lines of a table of rows. What a decky's decoys listen on stands beside
/// its newest row alone.
pub fn rows(
    records: &[Record],
    decoys: &[Place],
    width: Width,
    status: impl Fn(&str) -> String,
) -> Vec<String> {
    if records.is_empty() {
        return vec!["no rows".to_owned()];
    }
    let look = Look::new(records, width);
    let mut lines =
        vec![look.line(&look.id("ID"), "DECKY", "OP", "STATUS   ", "HOST", look.time_head(), "DETAIL")];
    let mut seen = BTreeSet::new();
    for record in records {
        let mut detail = record.failure().map(Failure::to_string).unwrap_or_default();
        let is_newest = seen.insert(&record.decky);
        if detail.is_empty() && is_newest {
            let of_decky = decoys.iter().filter(|decoy| decoy.decky == record.decky);
            detail = of_decky.map(|d| format!("{}={}", d.service, d.at)).collect::<Vec<_>>().join(" ");
        }
        let host = record.host.as_ref().map_or("-", |host| host.as_str());
        lines.push(look.line(
            &look.id(&record.id.to_string()),
            record.decky.as_str(),
            record.operation.as_str(),
            &status(record.status().as_str()),
            host,
            &look.time(record.created_at),
            &one_line(&detail, DETAIL),
        ));
    }
    lines
}

/// How the columns lie.
struct Look {
    whole: bool,
    columns: Option<usize>,
    decky: usize,
    host: usize,
    now: Timestamp,
}

impl Look {
    fn new(records: &[Record], width: Width) -> Self {
        let whole = matches!(width, Width::Whole);
        let columns = if whole { None } else { columns() };
        let most = if columns.is_some() { NAME } else { usize::MAX };
        let widest =
            |names: &mut dyn Iterator<Item = usize>, head: usize| names.max().unwrap_or(0).clamp(head, most);
        let decky = widest(&mut records.iter().map(|row| row.decky.as_str().len()), 5);
        let hosts = &mut records.iter().map(|row| row.host.as_ref().map_or(1, |host| host.as_str().len()));
        Self { whole, columns, decky, host: widest(hosts, 4), now: SystemClock::new().now() }
    }

    /// Ids of one request begin alike: their ends tell them apart.
    fn id(&self, id: &str) -> String {
        match self.whole {
            true => format!("{id:<36}"),
            false => format!("{:<ID$}", id.get(id.len().saturating_sub(ID)..).unwrap_or(id)),
        }
    }

    const fn time_head(&self) -> &'static str {
        if self.whole { "ACCEPTED" } else { "AGE" }
    }

    fn time(&self, at: Timestamp) -> String {
        if self.whole { to_the_second(at) } else { age(self.now.since(at).as_secs()) }
    }

    #[allow(clippy::too_many_arguments, reason = "a column each")]
    fn line(
        &self,
        id: &str,
        decky: &str,
        operation: &str,
        status: &str,
        host: &str,
        time: &str,
        detail: &str,
    ) -> String {
        let (decky, host) = (cut(decky, self.decky), cut(host, self.host));
        let time_width = if self.whole { 20 } else { 4 };
        let (name, host_width) = (self.decky, self.host);
        let before = format!("{id}  {decky:<name$}  {operation:<8}  ");
        let after = format!("  {host:<host_width$}  {time:<time_width$}  ");
        // A status is as wide as `succeeded`, whatever its colours take.
        let used = before.chars().count() + 9 + after.chars().count();
        let detail = match self.columns {
            Some(columns) => cut(detail, columns.saturating_sub(used)),
            None => detail.to_owned(),
        };
        format!("{before}{status}{after}{detail}").trim_end().to_owned()
    }
}

/// The text, with an ellipsis where it was cut.
pub fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    if room == 0 { kept } else { format!("{}\u{2026}", kept.trim_end()) }
}

/// A time as `2026-11-24T09:13:59Z`.
pub fn to_the_second(at: Timestamp) -> String {
    let text: String = at.to_string().chars().take(19).collect();
    format!("{text}Z")
}

/// How long ago, for people: `4s`, `12m`, `3h`, `9d`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
