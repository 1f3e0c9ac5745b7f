//! Copies of a redb store: consistent beside a writer, whole or refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome, Step},
    lifecycle::{EngineName, MasterName, Phase, Revision},
    placement::{Aim, Placed, Placement},
    store::{
        Backup, BackupError, Feed, MemoryStore, OpenError, PlacementQuery, Query, RedbReader, RedbStore,
        Store,
    },
    *,
};
use futures_lite::future::block_on;

#[path = "rows/mod.rs"]
mod rows;

use rows::row;

/// A decky that a row is to bring up, at an address of its own.
fn placed(number: u64) -> Placed {
    let fleet = serde_json::json!({
        "mode": "unihost", "interface": "eth0", "subnet": "10.0.0.0/8", "gateway": "10.255.0.1",
        "deckies": [{"name": format!("decky-{number}"), "services": ["ssh"], "distro": "debian",
                     "ip": std::net::Ipv4Addr::from(0x0a00_000a + u32::try_from(number).unwrap()).to_string(),
                     "base_image": "debian:12", "hostname": "srv"}],
    });
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    let master = MasterName::parse("m").unwrap();
    Placed::new(&fleet, &fleet.deckies[0], &master, Some(&EngineName::parse("process").unwrap()))
}

/// The change that makes this revision: each row is accepted, started, and ends
/// one way or the other.
fn change(revision: u64) -> Batch {
    let number = (revision - 1) / 3;
    let pending = row(number);
    let at = pending.created_at;
    let next = |phase| Record { phase, ..pending.clone() };
    let step = |phase| {
        let step = Step::new(Revision::new(revision - 1), next(phase));
        Batch::per_row(vec![Change::Step(Box::new(step))])
    };
    match (revision - 1) % 3 {
        0 => {
            let insert = Insert::new(pending, Overlap::Reject).aim(Aim::Up(Arc::new(placed(number))));
            Batch::per_row(vec![Change::Insert(Box::new(insert))])
        }
        1 => step(Phase::Running { since: at, deadline: at }),
        _ if number.is_multiple_of(5) => {
            let failure = Failure::new(FailureKind::Engine, "no room");
            step(Phase::Failed { since: Some(at), at, failure })
        }
        _ => step(Phase::Succeeded { since: at, at }),
    }
}

fn commit(store: &dyn Store, revision: u64) {
    let outcomes = block_on(store.commit(change(revision))).unwrap();
    assert!(matches!(outcomes.as_slice(), [Outcome::Applied { .. }]), "{revision}: {outcomes:?}");
}

/// All that a store holds.
fn held(store: &dyn Store) -> (Vec<Record>, Vec<Placement>, Vec<store::Entry>, Vec<Arc<Placed>>) {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = block_on(store.query(&Query::new().limit(1_000).after(after))).unwrap();
        rows.extend(page.records);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let placements = block_on(store.placements(&PlacementQuery::All)).unwrap();
    let Feed::Entries { entries, .. } = block_on(store.changes(Revision::ZERO, usize::MAX)).unwrap() else {
        panic!("the feed is not whole");
    };
    let ids: Vec<LifecycleId> = rows.iter().map(|row| row.id).collect();
    let aside = block_on(store.set_aside(&ids)).unwrap().into_values().collect();
    (rows, placements, entries, aside)
}

#[test]
fn a_backup_beside_a_writer_is_what_one_revision_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifecycle.redb");
    let store = RedbStore::open(&path).unwrap();
    for revision in 1..=30 {
        commit(&store, revision);
    }
    let (committed, enough) = (AtomicU64::new(30), AtomicU64::new(0));
    let copies: Vec<(std::path::PathBuf, Backup)> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for revision in 31.. {
                commit(&store, revision);
                committed.store(revision, Ordering::SeqCst);
                if enough.load(Ordering::SeqCst) > 0 {
                    break;
                }
            }
        });
        let copies = (0..6).map(|number| {
            // Each is of a later revision than the one before, by others and by
            // the writer itself.
            let before = committed.load(Ordering::SeqCst);
            while committed.load(Ordering::SeqCst) < before + 5 {
                std::thread::yield_now();
            }
            let copy = dir.path().join(format!("copy-{number}.redb"));
            let made = match number % 2 {
                0 => RedbReader::open(&path).unwrap().backup(&copy).unwrap(),
                _ => store.backup(&copy).unwrap(),
            };
            (copy, made)
        });
        let copies = copies.collect();
        enough.store(1, Ordering::SeqCst);
        copies
    });
    assert!(copies.windows(2).all(|pair| pair[0].1.revision < pair[1].1.revision), "{copies:?}");
    for (copy, made) in copies {
        let again = dir.path().join("again.redb");
        assert_eq!(RedbStore::restore(&copy, &again).unwrap(), made);
        let (restored, wanted) = (RedbStore::open(&again).unwrap(), MemoryStore::new());
        for revision in 1..=made.revision.get() {
            commit(&wanted, revision);
        }
        let found = held(&restored);
        assert_eq!(found, held(&wanted), "revision {}", made.revision);
        assert_eq!((made.rows, made.placements), (found.0.len() as u64, found.1.len() as u64));
        // Work goes on from there.
        commit(&restored, made.revision.next().get());
        drop(restored);
        std::fs::remove_file(&again).unwrap();
    }
}

/// Why a copy is refused; nothing is left of it.
fn refused(copy: &Path, to: &Path) -> BackupError {
    let files = || std::fs::read_dir(to.parent().unwrap()).unwrap().count();
    let before = files();
    let error = RedbStore::restore(copy, to).unwrap_err();
    assert_eq!(files(), before, "{error}");
    error
}

#[test]
fn what_is_no_whole_backup_is_not_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("lifecycle.redb"), dir.path().join("copy.redb"));
    let store = RedbStore::open(&path).unwrap();
    for revision in 1..=90 {
        commit(&store, revision);
    }
    let made = store.backup(&copy).unwrap();
    assert_eq!((made.revision, made.rows), (Revision::new(90), 30));
    assert!(matches!(store.backup(&copy).unwrap_err(), BackupError::Exists { .. }));
    assert!(matches!(refused(&copy, &path), BackupError::Exists { .. }));
    let to = dir.path().join("to.redb");
    assert!(matches!(
        refused(&dir.path().join("nothing"), &to),
        BackupError::Open(OpenError::Missing { .. })
    ));

    let whole = std::fs::read(&copy).unwrap();
    let torn = dir.path().join("torn.redb");
    // Cut short, at any place.
    for kept in [10, 4_096, 8_192, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        std::fs::write(&torn, &whole[..kept]).unwrap();
        refused(&torn, &to);
    }
    // With a piece of another time, or of nothing, in each page that says something.
    let pages = whole.chunks(4_096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    let mut harmless = 0;
    for (number, _) in pages {
        let mut broken = whole.clone();
        broken[number * 4_096..(number + 1) * 4_096].fill(0);
        std::fs::write(&torn, &broken).unwrap();
        match RedbStore::restore(&torn, &to) {
            Err(_) => assert!(!to.exists()),
            // A page that nothing leads to any more.
            Ok(found) => {
                assert_eq!(found, made);
                assert_eq!(held(&RedbStore::open(&to).unwrap()), held(&store), "page {number}");
                std::fs::remove_file(&to).unwrap();
                std::fs::remove_file(dir.path().join("to.redb.holder")).unwrap();
                harmless += 1;
            }
        }
    }
    assert!(harmless < whole.len() / 4_096 / 2, "{harmless} pages of {}", whole.len() / 4_096);
    // A copy by other means of a file that is being written was never closed.
    std::fs::copy(&path, &torn).unwrap();
    assert!(refused(&torn, &to).to_string().contains("is no whole backup (it was not closed)"));
    std::fs::write(&torn, "not a store").unwrap();
    assert!(matches!(refused(&torn, &to), BackupError::Open(OpenError::Foreign { .. })));
    assert_eq!(RedbStore::restore(&copy, &to).unwrap(), made);
}
