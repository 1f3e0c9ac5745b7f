//! Commands that look at what containers would need: doctor, compose-file.

use std::path::{Path, PathBuf};

use decnet_lifecycle::compose::Health;
use serde_json::json;

use crate::args::Compose;
use crate::engines::compose_engine;
use crate::fleet_file::read_fleet;
use crate::home::Home;
use crate::output::{Output, line};
use crate::{Complaint, Done};

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
        out.say(
            || json!({"event": "finding", "what": found.what, "health": word, "text": found.text}),
            || format!("{word:<8} {:<10} {}", found.what, found.text),
        );
    }
    let is_bad = findings.iter().any(|found| found.health == Health::Bad);
    Ok(if is_bad { Done::RowsFailed } else { Done::Well })
}

pub fn compose_file(home: &Home, fleet: &Path, compose: &Compose) -> Result<Done, Complaint> {
    let fleet = read_fleet(home, fleet, compose)?;
    let (engine, _) = compose_engine(home, compose)?;
    let file = engine.compose(&fleet).map_err(|problems| Complaint(problems.to_string()))?;
    for note in engine.left_out(&fleet).map_err(|problems| Complaint(problems.to_string()))? {
        eprintln!("note: {note}");
    }
    line(file.to_json().trim_end());
    Ok(Done::Well)
}
