//! Commands that look at what containers would need: doctor, compose-file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use decnet_lifecycle::engine::compose::Health;
use decnet_lifecycle::lifecycle::text::one_line;
use decnet_lifecycle::{
    LifecycleId, Timestamp,
    lifecycle::Revision,
    store::{Feed, PlacementQuery, Query},
};
use serde_json::json;

use crate::args::Compose;
use crate::engines::compose_engine;
use crate::fleet_file::read_fleet;
use crate::home::Home;
use crate::output::{Output, line};
use crate::{Complaint, Done};

/// The most characters of a finding.
const TEXT: usize = 4_000;

pub async fn doctor(
    home: &Home,
    out: &Output,
    fleet: Option<PathBuf>,
    compose: &Compose,
) -> Result<Done, Complaint> {
    let fleet = fleet.map(|path| read_fleet(home, &path, compose)).transpose()?;
    let (engine, _) = compose_engine(home, compose)?;
    let findings = engine.examine(fleet.as_ref()).await;
    for found in &findings {
        let word = match found.health {
            Health::Good => "good",
            Health::Warning => "warning",
            Health::Bad => "bad",
        };
        tell(out, found.what, word, &found.text);
    }
    let store = store_is_sound(home, out).await;
    let is_bad = !store || findings.iter().any(|found| found.health == Health::Bad);
    Ok(if is_bad { Done::RowsFailed } else { Done::Well })
}

/// Reads all of the store by every way there is, and says what can't be read.
async fn store_is_sound(home: &Home, out: &Output) -> bool {
    let (word, text) = match read_all(home).await {
        Ok(text) => ("good", text),
        Err(Complaint(what)) => ("bad", what),
    };
    tell(out, "store", word, &text);
    word == "good"
}

/// One finding; lines of its own are set in below it.
fn tell(out: &Output, what: &str, word: &str, text: &str) {
    if out.is_json() {
        return out
            .say(|| json!({"event": "finding", "what": what, "health": word, "text": text}), String::new);
    }
    let lines: Vec<String> = text.split('\n').map(|line| one_line(line, TEXT)).collect();
    line(&format!("{}{what:<10} {}", out.status(word), lines.join("\n                    ")));
}

async fn read_all(home: &Home) -> Result<String, Complaint> {
    let Some(store) = home.open_reader().await? else {
        return Ok("none yet; a first deploy makes one".to_owned());
    };
    let mut damaged = BTreeSet::new();
    let mut counts = Vec::new();
    // All rows; those that are open, and those by their deadlines, which must
    // be as many.
    let last = Timestamp::from_micros(i64::MAX);
    for query in [Query::new(), Query::new().open(), Query::new().due_by(last)] {
        let (mut count, mut after) = (0, None);
        loop {
            let page = store.query(&query.clone().limit(Query::MAX_LIMIT).after(after)).await?;
            count += page.records.len();
            let ids: Vec<LifecycleId> = page.records.iter().map(|row| row.id).collect();
            store.set_aside(&ids).await?;
            damaged.extend(page.damaged);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        counts.push(count);
    }
    let (mut entries, mut after) = (0, Revision::ZERO);
    loop {
        match store.changes(after, Query::MAX_LIMIT).await? {
            Feed::Entries { entries: some, .. } => match some.last() {
                Some(newest) => {
                    entries += some.len();
                    after = newest.revision;
                }
                None => break,
            },
            Feed::Compacted { oldest } => after = Revision::new(oldest.get().saturating_sub(1)),
        }
    }
    let placed = store.placements(&PlacementQuery::All).await?.len();
    let [rows, open, due] = counts.as_slice() else { return Ok(String::new()) };
    if !damaged.is_empty() {
        let some: Vec<String> = damaged.iter().take(5).map(ToString::to_string).collect();
        return Err(Complaint(format!(
            "{} of its rows can't be read ({}); all others can; restore a backup, or go on without them",
            damaged.len(),
            some.join(", ")
        )));
    }
    if open != due {
        return Err(Complaint(format!("{open} rows are open, and {due} have a deadline; restore a backup")));
    }
    Ok(format!("{rows} rows, {open} of them open, {entries} changes and {placed} placements can be read"))
}

pub fn compose_file(home: &Home, fleet: &Path, compose: &Compose) -> Result<Done, Complaint> {
    let fleet = read_fleet(home, fleet, compose)?;
    let (engine, _) = compose_engine(home, compose)?;
    let file = engine.compose(&fleet).map_err(|problems| Complaint(problems.to_string()))?;
    for note in engine.left_out(&fleet).map_err(|problems| Complaint(problems.to_string()))? {
        crate::output::aside(&format!("note: {note}"));
    }
    line(file.to_json().trim_end());
    Ok(Done::Well)
}
