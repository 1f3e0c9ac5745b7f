//! What a commit does, and what it refuses.

use std::future::Future as _;
use std::sync::Arc;

use crate::decide::{Annotate, Batch, Change, KeyClaim, Outcome, Overlap, Refusal};
use crate::lifecycle::{
    DeckyName, Failure, FailureKind, HostId, LifecycleId, NameError, Operation, Record, RequestKey, Revision,
    Status,
};
use crate::store::{Query, Retention, StoreError};

use super::rows::*;
use super::{Fixture, Wrong};

pub(super) async fn inserts(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let record = inserted(&*store, 1, 1).await?;
    ensure!(record.revision == Revision::new(1), "the first change has revision {}", record.revision);
    ensure!(read_one(&*store, record.id).await?.as_ref() == Some(&record), "the row reads back differently");
    let again = one(&*store, insert(record.clone(), Overlap::Allow)).await?;
    ensure!(
        matches!(again, Outcome::Refused(Refusal::Duplicate(id)) if id == record.id),
        "inserted twice: {again:?}"
    );
    let unknown = store.read(&[LifecycleId::from_u128(7), record.id]).await?;
    ensure!(unknown.len() == 1, "an unknown id was not left out");
    let running = store.commit(Batch::per_row(vec![insert(started(&row(2, 2)?, 3), Overlap::Reject)])).await;
    ensure!(matches!(running, Err(StoreError::Refused { .. })), "a running row was inserted: {running:?}");
    Ok(())
}

pub(super) async fn compare_and_swap(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let second = applied(&*store, step(first.revision, started(&first, 2))).await?;
    ensure!(second.status() == Status::Running, "started, but {}", second.status());
    match one(&*store, step(first.revision, failed(&second, 3, "late"))).await? {
        Outcome::Refused(Refusal::Conflict(current)) => {
            ensure!(*current == second, "the conflict shows another row than the current one");
        }
        other => return Err(Wrong(format!("a step from an old revision gave {other:?}"))),
    }
    let missing = one(&*store, step(Revision::new(1), started(&row(9, 9)?, 10))).await?;
    ensure!(matches!(missing, Outcome::Refused(Refusal::Missing(_))), "a step of no row gave {missing:?}");
    Ok(())
}

pub(super) async fn terminal(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let closed = applied(&*store, step(first.revision, failed(&first, 2, "no"))).await?;
    let back = Record { phase: started(&first, 3).phase, ..closed.clone() };
    for next in [back, failed(&closed, 4, "other"), ended(&closed, 5)] {
        let outcome = one(&*store, step(closed.revision, next)).await?;
        ensure!(
            matches!(outcome, Outcome::Refused(Refusal::Conflict(_))),
            "a closed row took a step: {outcome:?}"
        );
    }
    let note = Annotate { id: closed.id, cancel_requested_at: at(6) };
    let outcome = one(&*store, Change::Annotate(note)).await?;
    ensure!(
        matches!(outcome, Outcome::Refused(Refusal::Conflict(_))),
        "a closed row was annotated: {outcome:?}"
    );
    ensure!(read_one(&*store, closed.id).await?.as_ref() == Some(&closed), "a closed row has changed");
    Ok(())
}

pub(super) async fn legal(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let moved = Record { decky: decky(2)?, ..started(&first, 2) };
    let early = Record { updated_at: at(0), ..started(&first, 2) };
    let other = Record { operation: Operation::Mutate, ..started(&first, 2) };
    for next in [ended(&first, 2), moved, early, other, first.clone()] {
        let outcome = one(&*store, step(first.revision, next.clone())).await?;
        ensure!(
            matches!(outcome, Outcome::Refused(Refusal::Conflict(_))),
            "an illegal step was taken: {next:?}"
        );
    }
    Ok(())
}

pub(super) async fn all_or_none(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let held = inserted(&*store, 1, 1).await?;
    let changes = vec![insert(row(2, 2)?, Overlap::Reject), insert(row(3, 1)?, Overlap::Reject)];
    let outcomes = store.commit(Batch::all_or_none(changes)).await?;
    ensure!(
        matches!(
            outcomes.as_slice(),
            [Outcome::Refused(Refusal::Together), Outcome::Refused(Refusal::Busy { .. })]
        ),
        "a torn all-or-none batch gave {outcomes:?}"
    );
    ensure!(store.query(&Query::new()).await?.records == [held], "part of a refused batch is in the store");
    ensure!(entries(&*store).await?.len() == 1, "part of a refused batch is in the feed");
    let next = inserted(&*store, 4, 2).await?;
    ensure!(
        next.revision == Revision::new(2),
        "a refused batch used up revisions: next is {}",
        next.revision
    );
    Ok(())
}

pub(super) async fn per_row(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    inserted(&*store, 1, 1).await?;
    let changes = vec![insert(row(2, 1)?, Overlap::Reject), insert(row(3, 2)?, Overlap::Reject)];
    let outcomes = store.commit(Batch::per_row(changes)).await?;
    ensure!(
        matches!(outcomes.as_slice(), [Outcome::Refused(Refusal::Busy { .. }), Outcome::Applied { .. }]),
        "a per-row batch gave {outcomes:?}"
    );
    ensure!(store.query(&Query::new()).await?.records.len() == 2, "the good change did not count");
    Ok(())
}

pub(super) async fn overlap(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    match one(&*store, insert(row(2, 1)?, Overlap::Reject)).await? {
        Outcome::Refused(Refusal::Busy { open, .. }) => ensure!(open == [first.id], "busy names {open:?}"),
        other => return Err(Wrong(format!("a second open row: {other:?}"))),
    }
    let both = vec![insert(row(3, 7)?, Overlap::Reject), insert(row(4, 7)?, Overlap::Reject)];
    let outcomes = store.commit(Batch::per_row(both)).await?;
    ensure!(matches!(outcomes.last(), Some(Outcome::Refused(_))), "two open rows in one batch: {outcomes:?}");
    match one(&*store, insert(row(5, 1)?, Overlap::Supersede)).await? {
        Outcome::Applied { superseded, .. } => {
            let kinds: Vec<_> =
                superseded.iter().filter_map(|row| row.failure().map(Failure::kind)).collect();
            ensure!(kinds == [FailureKind::Superseded], "superseding gave {superseded:?}");
            let read = read_one(&*store, first.id).await?;
            ensure!(read.as_ref() == superseded.first(), "the superseded row reads back differently");
        }
        other => return Err(Wrong(format!("superseding gave {other:?}"))),
    }
    applied(&*store, insert(row(6, 1)?, Overlap::Allow)).await?;
    let open = store.query(&Query::new().decky(decky(1)?).open()).await?.records;
    ensure!(open.len() == 2, "allow leaves {} open rows", open.len());
    Ok(())
}

pub(super) async fn keys(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let claim =
        |hash| -> Result<_, Wrong> { Ok(Some(KeyClaim { key: RequestKey::parse("k")?, hash: [hash; 32] })) };
    let keyed = |number| -> Result<_, Wrong> { Ok(vec![insert(row(number, number)?, Overlap::Reject)]) };
    let first = store.commit(Batch::all_or_none(keyed(1)?).with_key(claim(1)?)).await?;
    let [Outcome::Applied { record, .. }] = first.as_slice() else {
        return Err(Wrong(format!("a keyed insert gave {first:?}")));
    };
    ensure!(
        record.key == Some(RequestKey::parse("k")?),
        "a row made under a key does not carry it: {record:?}"
    );
    let again = store.commit(Batch::all_or_none(keyed(2)?).with_key(claim(1)?)).await?;
    ensure!(
        matches!(again.as_slice(), [Outcome::Repeated(id)] if *id == record.id),
        "a repeat gave {again:?}"
    );
    let other = store.commit(Batch::all_or_none(keyed(3)?).with_key(claim(2)?)).await?;
    ensure!(
        matches!(other.as_slice(), [Outcome::Refused(Refusal::KeyTaken(_))]),
        "another request under the key gave {other:?}"
    );
    ensure!(store.query(&Query::new()).await?.records.len() == 1, "a repeat made a row");
    for bad in
        [Batch::per_row(keyed(5)?), Batch::all_or_none(vec![step(record.revision, failed(record, 5, "x"))])]
    {
        let refused = store.commit(bad.with_key(claim(3)?)).await;
        ensure!(matches!(refused, Err(StoreError::Refused { .. })), "a key on such a batch gave {refused:?}");
    }
    applied(&*store, step(record.revision, failed(record, 5, "x"))).await?;
    store.prune(&Retention::closed_before(at(1_000))).await?;
    let anew = store.commit(Batch::all_or_none(keyed(4)?).with_key(claim(2)?)).await?;
    ensure!(matches!(anew.as_slice(), [Outcome::Applied { .. }]), "the key outlived its last row: {anew:?}");
    Ok(())
}

pub(super) async fn annotate(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let note = |seconds| Change::Annotate(Annotate { id: first.id, cancel_requested_at: at(seconds) });
    let noted = applied(&*store, note(5)).await?;
    ensure!(noted.cancel_requested_at == Some(at(5)), "the note is not kept");
    ensure!(noted.status() == Status::Pending && noted.revision > first.revision, "the note gave {noted:?}");
    let twice = applied(&*store, note(6)).await?;
    ensure!(twice == noted, "a second note changed the row: {twice:?}");
    let old = one(&*store, step(first.revision, started(&first, 7))).await?;
    ensure!(matches!(old, Outcome::Refused(Refusal::Conflict(_))), "a step missed the note: {old:?}");
    applied(&*store, step(noted.revision, started(&noted, 7))).await?;
    Ok(())
}

pub(super) async fn concurrent(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let mut submitted = Vec::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        let batch = Batch::all_or_none(vec![insert(row(number, number % 50)?, Overlap::Reject)]);
        submitted.push(Box::pin(async move { store.commit(batch).await }));
    }
    let mut outcomes = Vec::new();
    std::future::poll_fn(|cx| {
        submitted.retain_mut(|commit| match commit.as_mut().poll(cx) {
            std::task::Poll::Ready(result) => {
                outcomes.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if submitted.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let mut applied = 0;
    for outcome in outcomes {
        applied += outcome?.iter().filter(|outcome| matches!(outcome, Outcome::Applied { .. })).count();
    }
    ensure!(applied == 50, "{applied} open rows for 50 deckies");
    let revisions: Vec<u64> = entries(&*store).await?.iter().map(|entry| entry.revision.get()).collect();
    ensure!(revisions == (1..=50).collect::<Vec<u64>>(), "revisions are {revisions:?}");
    Ok(())
}

pub(super) async fn dropped(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    for number in 0..40 {
        let pair = vec![
            insert(row(2 * number, 2 * number)?, Overlap::Reject),
            insert(row(2 * number + 1, 2 * number + 1)?, Overlap::Reject),
        ];
        let mut commit = Box::pin(store.commit(Batch::all_or_none(pair)));
        // One poll at most hands the batch over; then nobody waits for it.
        let _ = futures_lite::future::poll_once(&mut commit).await;
    }
    inserted(&*store, 900, 900).await?;
    let rows = store.query(&Query::new().limit(1_000)).await?.records;
    for number in 0..40 {
        let pair = [decky(2 * number)?, decky(2 * number + 1)?];
        let there = rows.iter().filter(|row| pair.contains(&row.decky)).count();
        ensure!(there != 1, "half of a batch is in the store");
    }
    let revisions: Vec<u64> = entries(&*store).await?.iter().map(|entry| entry.revision.get()).collect();
    let dense: Vec<u64> = (1..=u64::try_from(rows.len()).unwrap_or(0)).collect();
    ensure!(revisions == dense, "dropped futures left a gap in the feed: {revisions:?}");
    Ok(())
}

pub(super) async fn bounds(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let mut record = row(1, 1)?;
    record.decky = DeckyName::parse(&"d".repeat(63))?;
    record.host = Some(HostId::parse(&"h".repeat(64))?);
    record.owner.epoch = u64::MAX;
    let claim = KeyClaim { key: RequestKey::parse(&"k".repeat(128))?, hash: [0xff; 32] };
    let keyed = Batch::all_or_none(vec![insert(record, Overlap::Reject)]).with_key(Some(claim.clone()));
    let outcomes = store.commit(keyed).await?;
    let [Outcome::Applied { record: first, .. }] = outcomes.as_slice() else {
        return Err(Wrong(format!("a row of long names gave {outcomes:?}")));
    };
    ensure!(first.key == Some(claim.key), "a long key was kept as {:?}", first.key);
    let message = "\u{1f41d}".repeat(10_000);
    let next = failed(first, 2, &message);
    let closed = applied(&*store, step(first.revision, next.clone())).await?;
    let wanted = Record { revision: closed.revision, ..next };
    ensure!(closed == wanted, "a large row was committed as {closed:?}");
    ensure!(read_one(&*store, closed.id).await? == Some(wanted), "a large row reads back differently");
    let many: Result<Vec<Change>, NameError> =
        (0..=Batch::MAX_CHANGES).map(|_| Ok(insert(row(2, 2)?, Overlap::Allow))).collect();
    let refused = store.commit(Batch::per_row(many?)).await;
    ensure!(matches!(refused, Err(StoreError::Refused { .. })), "a batch over the bound was taken");
    Ok(())
}
