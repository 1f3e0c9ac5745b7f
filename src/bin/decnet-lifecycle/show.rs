//! Commands that only look: ls, show, watch, export.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::lifecycle::text::{json, one_line};
use decnet_lifecycle::store::head;
use decnet_lifecycle::{
    Record, Status,
    bus::unix as unix_bus,
    clock::{Clock as _, SystemClock},
    lifecycle::Revision,
    runner::{Explanation, Seen, Watch, history},
    store::{Query, Store},
};
use futures_lite::FutureExt as _;
use serde_json::Value;

use crate::args::Ls;
use crate::client::RunningMaster;
use crate::engines::Chosen;
use crate::home::Home;
use crate::output::{Output, detailed, line, row};
use crate::row_name::RowName;
use crate::{Complaint, Done};

/// The most characters of a topic, and of what a row says.
const TOPIC: usize = 300;
const WORDS: usize = 8_000;

pub async fn ls(home: &Home, out: &Output, args: Ls) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let mut query = Query::new();
    query.decky = args.decky;
    query.host = args.host;
    query.status = args.status;
    if args.open {
        query = query.open();
    }
    let records = pages(&*store, query, args.limit).await?;
    out.table(&records, &Chosen::all_places(home).await?);
    Ok(Done::Well)
}

/// The first rows of a query, over as many pages as it takes.
pub async fn pages(store: &dyn Store, query: Query, limit: usize) -> Result<Vec<Record>, Complaint> {
    let mut records = Vec::new();
    let mut after = None;
    while records.len() < limit {
        let page = query.clone().after(after).limit(limit - records.len());
        let page = store.query(&page).await?;
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(records)
}

pub async fn show(home: &Home, out: &Output, row: &RowName) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let id = row.find(&*store).await?;
    // A running master knows more of a row than the row says.
    let value = match RunningMaster::find(home)? {
        Some(master) => master.get(&format!("/lifecycle/{id}")).await?,
        None => {
            let Some(record) = store.read(&[id]).await?.pop() else {
                return Err(Complaint(format!("there is no row {id}; `ls` shows the known ones")));
            };
            let why = Explanation::new(record, SystemClock::new().now());
            detailed(why.record(), &history(why.record()), &why)
        }
    };
    out.say(|| value.clone(), || shown(&value));
    Ok(Done::Well)
}

/// Whoever drives the rows, their ends are in the store.
pub async fn wait(
    home: &Home,
    out: &Output,
    rows: &[RowName],
    timeout: Option<Duration>,
) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let mut ids = Vec::with_capacity(rows.len());
    for row in rows {
        ids.push(row.find(&*store).await?);
    }
    if rows.is_empty() {
        let open = pages(&*store, Query::new().open(), usize::MAX).await?;
        ids.extend(open.iter().map(|row| row.id));
    }
    let mut watch = Watch::new(store.clone(), Arc::new(SystemClock::new()), head(&*store).await?);
    let ended = async {
        loop {
            if store.read(&ids).await?.iter().all(|row| !row.is_open()) {
                return Ok(true);
            }
            watch.next().await?;
        }
    };
    let late = async {
        match timeout {
            Some(timeout) => smol::Timer::after(timeout).await,
            None => std::future::pending().await,
        };
        Ok::<bool, Complaint>(false)
    };
    let in_time = ended.or(late).await?;
    let records = store.read(&ids).await?;
    out.table(&records, &Chosen::all_places(home).await?);
    Ok(match in_time {
        false => Done::Late,
        true if records.iter().any(|row| row.status() == Status::Failed) => Done::RowsFailed,
        true => Done::Well,
    })
}

fn shown(row: &Value) -> String {
    // A master of another version may have said it.
    let word = |value: &Value| value.as_str().map(|word| one_line(word, WORDS));
    let field = |name| row.get(name).and_then(word).unwrap_or_default();
    let host =
        if field("host_uuid").is_empty() { "the master itself".to_owned() } else { field("host_uuid") };
    let mut text = format!(
        "{}\n  decky      {}\n  operation  {}\n  host       {host}\n  status     {}\n  why        {}\n  history",
        field("id"),
        field("decky_name"),
        field("operation"),
        field("status"),
        field("why"),
    );
    for step in row.get("history").and_then(Value::as_array).into_iter().flatten() {
        let field = |name| step.get(name).and_then(word).unwrap_or_default();
        let error = if field("error").is_empty() { String::new() } else { format!("  {}", field("error")) };
        text.push_str(&format!("\n    {}  {}{error}", field("at"), field("status")));
    }
    text
}

pub async fn watch(home: &Home, out: &Output, from: Option<u64>) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let after = match from {
        Some(from) => Revision::new(from),
        None => head(&*store).await?,
    };
    let mut watch = Watch::new(store, Arc::new(SystemClock::new()), after);
    loop {
        match watch.next().await? {
            Seen::Changed(entry) => out.change(&entry),
            Seen::Ahead { head } => out.say(
                || serde_json::json!({"event": "reset", "head": head}),
                || format!("(the store ends before that, at revision {head}; following from there)"),
            ),
            Seen::Compacted { oldest } => out.say(
                || serde_json::json!({"event": "compacted", "oldest": oldest}),
                || format!("(changes before revision {oldest} have been pruned)"),
            ),
        }
    }
}

pub async fn export(home: &Home) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let (mut after, mut done) = (None, Done::Well);
    loop {
        let page = store.query(&Query::new().limit(Query::MAX_LIMIT).after(after)).await?;
        for record in &page.records {
            line(&json(&row(record)));
        }
        for id in &page.damaged {
            crate::output::aside(&format!(
                "error: row {id} is damaged and can't be read; `doctor` says more"
            ));
            done = Done::RowsFailed;
        }
        after = page.next;
        if after.is_none() {
            return Ok(done);
        }
    }
}

pub async fn tap(out: &Output, pattern: &str, socket: Option<PathBuf>) -> Result<Done, Complaint> {
    let socket = socket.unwrap_or_else(unix_bus::default_socket);
    let mut tap = unix_bus::UnixTap::connect(socket, "decnet-lifecycle-tap", pattern).await?;
    loop {
        let heard = tap.next().await?;
        out.say(
            || serde_json::json!({"event": "heard", "id": heard.id, "topic": heard.topic, "type": heard.kind, "ts": heard.ts, "payload": heard.payload}),
            || format!("{}  {}", one_line(&heard.topic, TOPIC), json(&heard.payload)),
        );
    }
}
