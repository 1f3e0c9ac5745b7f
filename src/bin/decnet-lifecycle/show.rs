//! One row, and rows until they end: show, wait.

use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::http::wire::detailed;
use decnet_lifecycle::lifecycle::text::one_line;
use decnet_lifecycle::store::head;
use decnet_lifecycle::{
    Status,
    clock::{Clock as _, SystemClock},
    runner::{Explanation, Watch, history},
    store::Query,
};
use futures_lite::FutureExt as _;
use serde_json::Value;

use crate::client::RunningMaster;
use crate::engines::Chosen;
use crate::home::Home;
use crate::ls::pages;
use crate::output::Output;
use crate::row_name::RowName;
use crate::table::Width;
use crate::{Complaint, Done};

/// The most characters of what a row says.
const WORDS: usize = 8_000;

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
    out.table(&records, &Chosen::all_places(home).await?, Width::Terminal);
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
    let host = if field("host").is_empty() { "the master itself".to_owned() } else { field("host") };
    let mut text = format!(
        "{}\n  decky      {}\n  operation  {}\n  host       {host}\n  status     {}\n  why        {}\n  history",
        field("id"),
        field("decky"),
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
