//! What a program without this crate would write: rows in one SQLite table,
//! in WAL with FULL, a commit a step or what has gathered as one.

use std::path::Path;
use std::thread::JoinHandle;

use async_channel::{Receiver, Sender};
use rusqlite::{Connection, params};

/// The most steps in one transaction.
const GROUP: usize = 4_096;

/// One step of one row.
pub enum Step {
    Insert { id: u128, decky: String },
    Start(u128),
    Succeed(u128),
}

/// The table, made if it is not there.
pub fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", "FULL").unwrap();
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS lifecycle (
            id BLOB PRIMARY KEY, decky TEXT NOT NULL, host TEXT, operation TEXT NOT NULL, status TEXT NOT NULL,
            error TEXT, owner TEXT NOT NULL, deadline INTEGER, created_at INTEGER NOT NULL,
            running_since INTEGER, completed_at INTEGER) WITHOUT ROWID",
    )
    .unwrap();
    db
}

pub fn apply(db: &Connection, step: &Step) {
    const NOW: i64 = 1_767_225_600_000_000;
    let changed = match step {
        Step::Insert { id, decky } => db
            .prepare_cached(
                "INSERT INTO lifecycle (id, decky, operation, status, owner, deadline, created_at)
                 VALUES (?, ?, 'deploy', 'pending', 'master 20015998343868', ?, ?)",
            )
            .and_then(|mut insert| insert.execute(params![id.to_be_bytes(), decky, NOW + 1, NOW])),
        Step::Start(id) => db
            .prepare_cached(
                "UPDATE lifecycle SET status = 'running', running_since = ?, deadline = ?
                 WHERE id = ? AND status = 'pending'",
            )
            .and_then(|mut update| update.execute(params![NOW, NOW + 1, id.to_be_bytes()])),
        Step::Succeed(id) => db
            .prepare_cached(
                "UPDATE lifecycle SET status = 'succeeded', completed_at = ?, deadline = NULL
                 WHERE id = ? AND status = 'running'",
            )
            .and_then(|mut update| update.execute(params![NOW, id.to_be_bytes()])),
    };
    assert_eq!(changed.unwrap(), 1);
}

/// Applies steps in one transaction.
pub fn commit<'s>(db: &Connection, steps: impl IntoIterator<Item = &'s Step>) {
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    steps.into_iter().for_each(|step| apply(db, step));
    db.execute_batch("COMMIT").unwrap();
}

/// Closed rows, each of which took its three steps.
pub fn fill(db: &Connection, rows: u128) {
    for from in (0..rows).step_by(20_000) {
        let ids = from..rows.min(from + 20_000);
        let insert = |id| Step::Insert { id, decky: format!("decky-{:06}", id % (rows / 50).max(1)) };
        commit(db, &ids.clone().map(insert).collect::<Vec<_>>());
        commit(db, &ids.clone().map(Step::Start).collect::<Vec<_>>());
        commit(db, &ids.map(Step::Succeed).collect::<Vec<_>>());
    }
}

/// One thread that writes, and commits what has gathered at once.
pub struct Grouped {
    queue: Sender<(Step, Sender<()>)>,
    thread: Option<JoinHandle<()>>,
}

impl Grouped {
    pub fn new(path: &Path) -> Self {
        let db = open(path);
        let (queue, steps) = async_channel::bounded(1_024);
        let thread = std::thread::spawn(move || write(&db, &steps));
        Self { queue, thread: Some(thread) }
    }

    pub async fn commit(&self, step: Step) {
        let (reply, answer) = async_channel::bounded(1);
        self.queue.send((step, reply)).await.unwrap();
        answer.recv().await.unwrap();
    }
}

fn write(db: &Connection, steps: &Receiver<(Step, Sender<()>)>) {
    while let Ok(first) = steps.recv_blocking() {
        let rest = std::iter::from_fn(|| steps.try_recv().ok());
        let group: Vec<_> = std::iter::once(first).chain(rest).take(GROUP).collect();
        commit(db, group.iter().map(|(step, _)| step));
        for (_, reply) in group {
            let _ = reply.try_send(());
        }
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        self.queue.close();
        self.thread.take().map(JoinHandle::join);
    }
}
