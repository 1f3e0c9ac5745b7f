//! What reads, pages, the feed and prune give back.

use std::sync::Arc;

use crate::decide::Overlap;
use crate::lifecycle::{HostId, LifecycleId, Operation, Revision, Status};
use crate::store::{Feed, Query, Retention, Store};

use super::rows::*;
use super::{Fixture, Wrong};

pub(super) async fn feed(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let mut records = Vec::new();
    for number in 1..=10 {
        records.push(inserted(&*store, number, number).await?);
    }
    for record in records {
        applied(&*store, step(record.revision, started(&record, 20))).await?;
    }
    let all = entries(&*store).await?;
    let revisions: Vec<u64> = all.iter().map(|entry| entry.revision.get()).collect();
    ensure!(revisions == (1..=20).collect::<Vec<u64>>(), "the feed has revisions {revisions:?}");
    match store.changes(Revision::new(5), 3).await? {
        Feed::Entries { entries, head } => {
            ensure!(all.get(5..8) == Some(&entries[..]), "a stretch of the feed is {entries:?}");
            ensure!(head == Revision::new(20), "the head is {head}");
        }
        Feed::Compacted { oldest } => return Err(Wrong(format!("compacted to {oldest} without a prune"))),
    }
    let last = all.last().map(|entry| (entry.status, entry.at));
    ensure!(last == Some((Status::Running, at(20))), "the last entry says {last:?}");
    ensure!(
        matches!(store.changes(Revision::new(20), 9).await?, Feed::Entries { entries, .. } if entries.is_empty()),
        "there is something after the head"
    );
    Ok(())
}

pub(super) async fn queries(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let host = HostId::parse("worker-1")?;
    let mut ids = Vec::new();
    for number in 1..=6 {
        let mut record = row(number, number.div_ceil(2))?;
        record.host = (number % 2 == 0).then(|| host.clone());
        let record = applied(&*store, insert(record, Overlap::Allow)).await?;
        if number <= 3 {
            applied(&*store, step(record.revision, failed(&record, 50, "x"))).await?;
        }
        ids.push(record.id);
    }
    let cases = [
        (Query::new(), vec![5, 4, 3, 2, 1, 0]),
        (Query::new().open(), vec![5, 4, 3]),
        (Query::new().decky(decky(2)?), vec![3, 2]),
        (Query::new().decky(decky(2)?).open(), vec![3]),
        (Query::new().host(host), vec![5, 3, 1]),
        (Query::new().status(Status::Failed), vec![2, 1, 0]),
        (Query::new().status(Status::Pending), vec![5, 4, 3]),
        (Query::new().operation(Operation::Mutate), vec![]),
    ];
    for (query, wanted) in cases {
        let found: Vec<LifecycleId> = store.query(&query).await?.records.iter().map(|row| row.id).collect();
        let wanted: Vec<LifecycleId> =
            wanted.into_iter().filter_map(|place: usize| ids.get(place).copied()).collect();
        ensure!(found == wanted, "{query:?} gave {found:?} instead of {wanted:?}");
    }
    Ok(())
}

pub(super) async fn due(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let late = inserted(&*store, 1, 1).await?;
    let early = inserted(&*store, 2, 2).await?;
    let early = applied(&*store, step(early.revision, started(&early, 3))).await?;
    let closed = inserted(&*store, 3, 3).await?;
    applied(&*store, step(closed.revision, failed(&closed, 4, "x"))).await?;
    let found = |seconds| {
        let (store, query) = (Arc::clone(&store), Query::new().due_by(at(seconds)));
        async move { Ok::<_, Wrong>(store.query(&query).await?.records.iter().map(|r| r.id).collect::<Vec<_>>()) }
    };
    ensure!(found(62).await?.is_empty(), "something is due before its deadline");
    ensure!(found(63).await? == [early.id], "a row is not due at its deadline");
    ensure!(found(10_000).await? == [early.id, late.id], "due rows are not in the order of their deadlines");
    let first = store.query(&Query::new().due_by(at(10_000)).limit(1)).await?;
    let second = store.query(&Query::new().due_by(at(10_000)).limit(1).after(first.next)).await?;
    ensure!(second.records.iter().map(|row| row.id).eq([late.id]), "the second page of due rows is wrong");
    ensure!(second.next.is_none(), "the last page of due rows has a next one");
    Ok(())
}

pub(super) async fn paging(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    for number in 10..30 {
        inserted(&*store, number, number).await?;
    }
    for query in [Query::new().limit(7), Query::new().open().limit(7)] {
        let mut seen = Vec::new();
        let mut after = None;
        let newer = store.query(&Query::new()).await?.records.len();
        loop {
            let page = store.query(&query.clone().after(after)).await?;
            seen.extend(page.records.iter().map(|row| row.id));
            // A newer row may not shift what comes after the cursor.
            inserted(&*store, 100 + newer + seen.len(), 100 + newer + seen.len()).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
            let text = after.map(|cursor| cursor.to_string()).unwrap_or_default();
            ensure!(text.parse().ok() == after, "a cursor does not survive as text: {text}");
        }
        ensure!(seen.len() == newer, "{} rows seen of {newer}", seen.len());
        ensure!(seen.is_sorted_by(|a, b| a > b), "pages are not newest first");
    }
    Ok(())
}

/// Prunes until there is no more; gives how many rows went.
async fn prune_all(store: &dyn Store, seconds: u64) -> Result<usize, Wrong> {
    let mut rows = 0;
    for _ in 0..100 {
        let pruned = store.prune(&Retention::closed_before(at(seconds))).await?;
        rows += pruned.rows;
        if !pruned.more {
            return Ok(rows);
        }
    }
    Err(Wrong("prune never comes to an end".into()))
}

pub(super) async fn prune(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let open = inserted(&*store, 1, 1).await?;
    for number in 2..=6 {
        let record = inserted(&*store, number, number).await?;
        applied(
            &*store,
            step(record.revision, failed(&record, 10 * u64::try_from(number).unwrap_or(0), "x")),
        )
        .await?;
    }
    let head = entries(&*store).await?.len();
    // A row may wait until the feed is compacted past its last change.
    let pruned = store.prune(&Retention::closed_before(at(40)).limit(1)).await?;
    ensure!(pruned.rows <= 1 && pruned.entries <= 1 && pruned.more, "a bounded prune gave {pruned:?}");
    let rows = pruned.rows + prune_all(&*store, 40).await?;
    ensure!(rows == 2, "of rows closed at 20 to 60, prune took {rows} as closed before 40");
    let left = store.query(&Query::new()).await?.records;
    ensure!(left.len() == 4 && left.iter().any(|row| row.id == open.id), "prune left {left:?}");
    match store.changes(Revision::ZERO, 100).await? {
        Feed::Compacted { oldest } => {
            let before = Revision::new(oldest.get() - 1);
            let Feed::Entries { entries, .. } = store.changes(before, 100).await? else {
                return Err(Wrong("the feed can't be read from its oldest entry".into()));
            };
            ensure!(
                entries.first().map(|entry| entry.revision) == Some(oldest),
                "the oldest entry is missing"
            );
            ensure!(
                entries.iter().all(|entry| entry.at >= at(40) || entry.revision > oldest),
                "pruned too little"
            );
        }
        Feed::Entries { .. } => return Err(Wrong("pruned entries are read as if there were none".into())),
    }
    let rows = prune_all(&*store, 10_000).await?;
    ensure!(rows == 3, "the closed rows left were {rows}");
    ensure!(read_one(&*store, open.id).await?.is_some(), "an open row was pruned");
    let next = inserted(&*store, 200, 200).await?;
    ensure!(
        next.revision.get() == u64::try_from(head).unwrap_or(0) + 1,
        "pruning reused revision {}",
        next.revision
    );
    Ok(())
}

pub(super) async fn reopens(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let second = inserted(&*store, 2, 2).await?;
    applied(&*store, step(second.revision, started(&second, 3))).await?;
    let rows = store.query(&Query::new()).await?;
    let feed = entries(&*store).await?;
    let Some(store) = fixture.reopen(store).await else {
        return Ok(());
    };
    ensure!(store.query(&Query::new()).await? == rows, "other rows after reopening");
    ensure!(entries(&*store).await? == feed, "another feed after reopening");
    let open = store.query(&Query::new().decky(first.decky.clone()).open()).await?.records;
    ensure!(open.len() == 1, "the index of open rows is lost");
    let next = inserted(&*store, 3, 3).await?;
    ensure!(next.revision == Revision::new(4), "reopening changed the next revision to {}", next.revision);
    Ok(())
}
