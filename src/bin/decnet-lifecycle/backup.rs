//! `backup` and `restore`: a copy of the store, made beside a running master,
//! and put back.

use std::path::Path;

use decnet_lifecycle::store::{Backup, RedbStore};
use serde_json::json;

use crate::home::Home;
use crate::output::Output;
use crate::{Complaint, Done};

pub fn backup(home: &Home, out: &Output, file: &Path) -> Result<Done, Complaint> {
    let made = home.file_reader()?.backup(file)?;
    tell(out, "backup", made, &file.display().to_string());
    Ok(Done::Well)
}

pub fn restore(home: &Home, out: &Output, file: &Path) -> Result<Done, Complaint> {
    let path = home.restore_path()?;
    let found = RedbStore::restore(file, &path)?;
    tell(out, "restore", found, &path.display().to_string());
    if found.placements > 0 {
        crate::output::aside(
            "note: `ps` shows which of its deckies run here; a deploy brings the others up again",
        );
    }
    Ok(Done::Well)
}

fn tell(out: &Output, event: &str, made: Backup, to: &str) {
    let Backup { revision, rows, placements, .. } = made;
    out.say(
        || json!({"event": event, "file": to, "revision": revision, "rows": rows, "placements": placements}),
        || format!("{rows} rows and {placements} placements, up to revision {revision}, are in {to}"),
    );
}
