//! Commands that look after rows: cancel, sweep, prune.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::{
    Cancelled, Unrecovered,
    clock::{Clock as _, SystemClock},
    engine::NoProgress,
    store::Retention,
};
use serde_json::{Value, json};

use crate::client::RunningMaster;
use crate::engines::Chosen;
use crate::home::{Home, Make};
use crate::output::Output;
use crate::row_name::RowName;
use crate::{Complaint, Done};

async fn master(home: &Home, wait: bool) -> Result<Unrecovered, Complaint> {
    if RunningMaster::find(home)?.is_some() {
        return Err(Complaint(
            "a master runs here and has the store in use; it sweeps and prunes by itself (`serve --sweep-every`, `--keep-closed`)"
                .into(),
        ));
    }
    let store = home.writer(Make::Never, wait.into()).await?;
    let chosen = Chosen::for_placed(home, &*store).await?;
    Ok(chosen.runner(store, Arc::new(NoProgress)).build()?)
}

pub async fn cancel(home: &Home, out: &Output, rows: &[RowName], wait: bool) -> Result<Done, Complaint> {
    let mut ids = BTreeSet::new();
    let reader = home.reader().await?;
    for row in rows {
        ids.insert(row.find(&*reader).await?);
    }
    drop(reader);
    if let Some(master) = RunningMaster::find(home)? {
        for id in ids {
            let answer = master.post(&format!("/lifecycle/{id}/cancel"), None, String::new()).await?;
            let word = answer.get("outcome").and_then(Value::as_str).unwrap_or_default();
            out.say(|| json!({"event": "cancel", "id": id, "outcome": word}), || format!("{id}: {word}"));
        }
        return Ok(Done::Well);
    }
    let runner = master(home, wait).await?;
    let mut told = Vec::new();
    for id in ids {
        told.push((
            id,
            match runner.cancel(id).await? {
                Cancelled::Ended => ("ended", "cancelled before it was started"),
                Cancelled::AlreadyClosed => ("closed", "it had ended before; nothing was changed"),
                Cancelled::Unknown => {
                    return Err(Complaint(format!("there is no row {id}; `ls` shows the known ones")));
                }
                _ => ("requested", "the intent is kept; `show` tells what became of the row"),
            },
        ));
    }
    // No master runs, or the store would not be ours: what it left running on
    // this machine has ended with it.
    if told.iter().any(|(_, (word, _))| *word == "requested") {
        runner.recover().await?;
    }
    for (id, (word, text)) in told {
        out.say(|| json!({"event": "cancel", "id": id, "outcome": word}), || format!("{id}: {text}"));
    }
    Ok(Done::Well)
}

pub async fn sweep(home: &Home, out: &Output, wait: bool) -> Result<Done, Complaint> {
    let runner = master(home, wait).await?;
    // What was accepted and not begun is left as it is: the next master takes
    // it up.
    let (runner, recovered) = runner.recover().await?;
    let swept = runner.sweep().await?;
    let (failed, left) = (recovered.failed + swept.failed, recovered.left + swept.left);
    out.say(
        || json!({"event": "sweep", "failed": failed, "left": left}),
        || format!("{failed} open row(s) failed, {left} left for the next sweep"),
    );
    Ok(Done::Well)
}

pub async fn prune(home: &Home, out: &Output, older_than: Duration, wait: bool) -> Result<Done, Complaint> {
    let runner = master(home, wait).await?;
    let policy = Retention::closed_before(SystemClock::new().now().minus(older_than));
    let (mut rows, mut entries) = (0, 0);
    loop {
        let pruned = runner.prune(&policy).await?;
        rows += pruned.rows;
        entries += pruned.entries;
        if !pruned.more {
            break;
        }
    }
    out.say(
        || json!({"event": "prune", "rows": rows, "entries": entries}),
        || format!("{rows} closed row(s) and {entries} feed entries removed"),
    );
    Ok(Done::Well)
}
