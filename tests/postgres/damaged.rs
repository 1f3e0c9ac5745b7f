//! What somebody else wrote into the tables is in nobody's way but its own.

use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome},
    lifecycle::{Phase, Revision},
    store::{Feed, PlacementQuery, Query, Store as _},
    *,
};
use futures_lite::future::block_on;

use crate::server::{connect, schema, server};
use crate::work::{applied, at, feed, insert, step, submit};

fn name(submitter: u16) -> DeckyName {
    DeckyName::parse(&format!("decky-{submitter}")).unwrap()
}

#[test]
fn a_damaged_row_hides_no_other() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let (store, tables) = (connect(&settings), schema(&settings));
    let rows: Vec<Record> =
        (1..=6).map(|number| block_on(applied(&store, insert(number, u64::from(number)))).unwrap()).collect();
    for (row, damage) in [
        (0, "decky = 'no name'"),
        (1, "failure = 'x', failure_kind = 'Unheard', status = 'failed', deadline = null, ended = 1"),
        (2, "revision = 9223372036854775807, operation = 'explode'"),
        (3, "status = 'running'"),
    ] {
        server.sql(&format!("update {tables}.lifecycles set {damage} where id = '{}'", rows[row].id));
    }
    let page = block_on(store.query(&Query::new())).unwrap();
    let ids = |rows: &[Record]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(&page.records), [rows[5].id, rows[4].id]);
    assert_eq!(page.damaged, [rows[3].id, rows[2].id, rows[1].id, rows[0].id]);
    // Page by page, also where a page ends with damaged ones.
    for query in
        [Query::new().limit(1), Query::new().open().limit(2), Query::new().due_by(at(90_000)).limit(2)]
    {
        let (mut seen, mut damaged, mut after) = (Vec::new(), 0, None);
        loop {
            let page = block_on(store.query(&query.clone().after(after))).unwrap();
            seen.extend(ids(&page.records));
            damaged += page.damaged.len();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, ids(&rows[4..]), "{query:?}");
        assert!(damaged >= 3, "{query:?}");
    }
    assert_eq!(block_on(store.read(&[rows[4].id])).unwrap(), rows[4..5]);
    let error = block_on(store.read(&[rows[4].id, rows[3].id])).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { what } if what.contains(&rows[3].id.to_string())),
        "{error}"
    );
    // Who commits at the same time as one that needs a damaged row goes on.
    let deadline = at(90_000);
    let started = |row: &Record| step(row, Phase::Running { since: row.updated_at, deadline });
    let all = rows[2..].iter().map(|row| store.commit(Batch::per_row(vec![started(row)])));
    let all = block_on(futures_util::future::join_all(all));
    let well: Vec<bool> = all.iter().map(Result::is_ok).collect();
    assert_eq!(well, [false, false, true, true], "{all:?}");
    assert!(matches!(&all[1], Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_change_that_can_t_be_told_is_passed_over() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let (store, tables) = (connect(&settings), schema(&settings));
    let _ = block_on(submit(&store, 1, 3)).unwrap();
    server.sql(&format!("update {tables}.feed set decky = 'no name' where revision = 3"));
    server.sql(&format!("delete from {tables}.feed where revision = 6"));
    let from = |after| block_on(store.changes(Revision::new(after), 100)).unwrap();
    let revisions = |feed| match feed {
        Feed::Entries { entries, head } => {
            assert_eq!(head, Revision::new(9));
            entries.iter().map(|entry| entry.revision.get()).collect::<Vec<_>>()
        }
        Feed::Compacted { oldest } => vec![1_000 + oldest.get()],
    };
    assert_eq!(revisions(from(0)), [1, 2]);
    assert_eq!(revisions(from(2)), [1_004]);
    assert_eq!(revisions(from(3)), [4, 5]);
    assert_eq!(revisions(from(5)), [1_007]);
    assert_eq!(revisions(from(6)), [7, 8, 9]);
    server.sql(&format!("delete from {tables}.feed where revision > 7"));
    assert_eq!(revisions(from(7)), [1_010]);
}

#[test]
fn a_damaged_placement_is_in_nobody_s_way_but_its_neighbours_addresses() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let (store, tables) = (connect(&settings), schema(&settings));
    for number in [1, 2] {
        let _ = block_on(submit(&store, number, 1)).unwrap();
    }
    let open = block_on(applied(&store, insert(3, 1))).unwrap();
    for damage in ["detail = '{}'", "homes = '{host/other}'", "rows = '{}'", "standing = 'unsure'"] {
        server.sql(&format!("create table {tables}.kept as table {tables}.placements"));
        server.sql(&format!("update {tables}.placements set {damage} where decky = 'decky-3'"));
        let of = |number| block_on(store.placements(&PlacementQuery::Of(vec![name(number)])));
        assert!(matches!(of(3), Err(StoreError::Corrupt { .. })), "{damage}");
        assert_eq!(of(2).unwrap().len(), 1, "{damage}");
        // Nothing is made of it, nor of what may want its address.
        let again = Change::Insert(match insert(3, 2) {
            Change::Insert(insert) => Box::new(Insert { overlap: Overlap::Allow, ..*insert }),
            _ => unreachable!(),
        });
        assert!(matches!(block_on(applied(&store, again)), Err(StoreError::Corrupt { .. })), "{damage}");
        if damage.starts_with("detail") {
            let beside = block_on(applied(&store, insert(4, 2)));
            assert!(matches!(beside, Err(StoreError::Corrupt { .. })), "{damage}");
        }
        server.sql(&format!(
            "delete from {tables}.placements; insert into {tables}.placements table {tables}.kept; \
             drop table {tables}.kept"
        ));
    }
    // Its row may end, and then it may be forgotten.
    server.sql(&format!("update {tables}.placements set detail = '[]' where decky = 'decky-3'"));
    let refused = Failure::new(FailureKind::Rejected, "no");
    let end = Phase::Failed { since: None, at: at(9), failure: refused };
    let _ = block_on(applied(&store, step(&open, end))).unwrap();
    let forget = block_on(store.commit(Batch::per_row(vec![Change::Forget(name(3))]))).unwrap();
    assert!(matches!(forget.as_slice(), [Outcome::Placed(_)]), "{forget:?}");
    let _ = block_on(applied(&store, insert(3, 5))).unwrap();
    block_on(Invariants::new().check(&store)).unwrap();
}

#[test]
fn a_commit_that_the_server_answers_with_a_rollback_is_none() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let (store, tables) = (connect(&settings), schema(&settings));
    let _ = block_on(submit(&store, 1, 1)).unwrap();
    // Each of the statements before the COMMIT fails once.
    for (table, check) in
        [("feed", "revision < 4"), ("lifecycles", "decky <> 'decky-2'"), ("meta", "head < 4")]
    {
        server.sql(&format!("alter table {tables}.{table} add constraint planted check ({check})"));
        let error = block_on(applied(&store, insert(2, 1))).unwrap_err();
        assert!(matches!(error, StoreError::NotCommitted { .. }), "{table}: {error}");
        // Not what stood in the row.
        assert!(error.to_string().contains("planted") && !error.to_string().contains("debian"), "{error}");
        assert_eq!(feed(&store).len(), 3, "{table}");
        server.sql(&format!("alter table {tables}.{table} drop constraint planted"));
    }
    assert_eq!(block_on(applied(&store, insert(2, 1))).unwrap().revision, Revision::new(4));
}

#[test]
fn what_a_database_has_lost_is_not_written_over() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let (store, tables) = (connect(&settings), schema(&settings));
    let _ = block_on(submit(&store, 1, 1)).unwrap();
    assert_eq!(feed(&store).len(), 3);
    // As after a failover to a server that lags.
    server.sql(&format!("delete from {tables}.feed where revision = 3; update {tables}.meta set head = 2"));
    let error = block_on(applied(&store, insert(2, 1))).unwrap_err();
    assert!(matches!(&error, StoreError::Closed { why } if why.contains("was 3")), "{error}");
    drop(store);
    // Who opens it anew has seen nothing else.
    let _ = block_on(applied(&connect(&settings), insert(2, 1))).unwrap();
}
