//! Rows, newest first: ls, export.

use decnet_lifecycle::http::wire;
use decnet_lifecycle::lifecycle::text::json;
use decnet_lifecycle::{
    FailureKind, Record, Status, Timestamp,
    clock::{Clock as _, SystemClock},
    store::{Query, Store},
};

use crate::args::Ls;
use crate::engines::Chosen;
use crate::home::Home;
use crate::output::{Output, line};
use crate::table::Width;
use crate::{Complaint, Done};

/// The most rows that are counted beyond those that are shown.
const COUNTED: usize = 10_000;
/// By how much clocks may have stepped: rows come by their ids, which are of
/// about the time that they were accepted at.
const STEPPED: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

pub async fn ls(home: &Home, out: &Output, args: Ls) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let width = if args.wide { Width::Whole } else { Width::Terminal };
    let (limit, decky, wanted) = (args.limit, args.decky.clone(), Wanted::new(args));
    let mut listed = Listed::default();
    let mut after = None;
    loop {
        let page = store.query(&wanted.query.clone().after(after).limit(Query::MAX_LIMIT)).await?;
        let too_old = page.records.last().is_some_and(|row| wanted.is_before(row));
        for row in page.records.into_iter().filter(|row| wanted.matches(row)) {
            if listed.rows.len() < limit {
                listed.rows.push(row);
            } else {
                listed.more += 1;
            }
        }
        after = page.next.filter(|_| !too_old);
        // What is not shown is counted for people alone.
        let enough = listed.more > 0 && (out.is_json() || listed.more >= COUNTED);
        if after.is_none() || enough {
            listed.and_more = after.is_some();
            break;
        }
    }
    out.table(&listed.rows, &Chosen::all_places(home).await?, width);
    if let Some(decky) = decky.filter(|_| listed.rows.is_empty() && !out.is_json()) {
        crate::output::aside(&format!(
            "note: there is no such row of a decky {decky}; `ps` shows what is placed"
        ));
    }
    if listed.more > 0 && !out.is_json() {
        let over = if listed.and_more { "more than " } else { "" };
        let (shown, all) = (listed.rows.len(), grouped(listed.rows.len() + listed.more));
        crate::output::aside(&format!("note: {shown} of {over}{all} rows; --limit says how many are shown"));
    }
    Ok(Done::Well)
}

/// What was found of what is wanted.
#[derive(Default)]
struct Listed {
    rows: Vec<Record>,
    /// How many more there are, as far as was counted.
    more: usize,
    /// Whether there may be more than that.
    and_more: bool,
}

/// Which rows are wanted.
struct Wanted {
    query: Query,
    statuses: Vec<Status>,
    kinds: Vec<FailureKind>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Wanted {
    fn new(args: Ls) -> Self {
        let now = SystemClock::new().now();
        let mut query = Query::new();
        query.decky = args.decky;
        query.host = args.host;
        query.operation = args.operation;
        if let [only] = args.status.as_slice() {
            query.status = Some(*only);
        } else if !args.error.is_empty() {
            query.status = Some(Status::Failed);
        }
        if args.open {
            query = query.open();
        }
        Self {
            query,
            statuses: args.status,
            kinds: args.error,
            since: args.since.map(|since| since.at(now)),
            until: args.until.map(|until| until.at(now)),
        }
    }

    fn matches(&self, row: &Record) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&row.status()))
            && (self.kinds.is_empty()
                || row.failure().is_some_and(|failure| self.kinds.contains(&failure.kind())))
            && self.since.is_none_or(|since| row.created_at >= since)
            && self.until.is_none_or(|until| row.created_at < until)
    }

    /// Whether neither this row nor one after it is wanted.
    fn is_before(&self, row: &Record) -> bool {
        self.since.is_some_and(|since| row.created_at.plus(STEPPED) < since)
    }
}

/// A number as people read it: `10,000`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

pub async fn export(home: &Home) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let (mut after, mut done) = (None, Done::Well);
    loop {
        let page = store.query(&Query::new().limit(Query::MAX_LIMIT).after(after)).await?;
        for record in &page.records {
            line(&json(&wire::row(record)));
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
