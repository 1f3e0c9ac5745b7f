//! The suite that every store must pass.
//!
//! Implement [`Fixture`] for a store and call [`check`]; each case gets an
//! empty store. `tests/conformance.rs` of this crate is the example.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::lifecycle::NameError;
use crate::store::{Store, StoreError};

mod clashes;
mod placed;
mod placements;
mod reading;
mod rows;
mod writing;

/// Makes the stores that the suite checks.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// An empty store.
    async fn fresh(&self) -> Arc<dyn Store>;

    /// The same store, closed and opened again; none if it keeps nothing.
    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>>;
}

/// A case that a store did not pass.
#[derive(Debug, thiserror::Error)]
#[error("{case}: {what}")]
pub struct Violation {
    /// The case.
    pub case: &'static str,
    /// What was seen.
    pub what: String,
}

/// What a case came to.
type Checked<'f> = Pin<Box<dyn Future<Output = Result<(), Wrong>> + 'f>>;
type Case = for<'f> fn(&'f dyn Fixture) -> Checked<'f>;

/// Why a case did not pass.
struct Wrong(String);

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Self(format!("the store failed: {error}"))
    }
}

impl From<NameError> for Wrong {
    fn from(error: NameError) -> Self {
        Self(error.to_string())
    }
}

/// Every case by its name.
const CASES: &[(&str, Case)] = &[
    ("an insert is readable and has the first revision", |f| Box::pin(writing::inserts(f))),
    ("a step needs the revision that the row has", |f| Box::pin(writing::compare_and_swap(f))),
    ("a closed row never changes", |f| Box::pin(writing::terminal(f))),
    ("only legal steps are taken", |f| Box::pin(writing::legal(f))),
    ("one refused change refuses an all-or-none batch", |f| Box::pin(writing::all_or_none(f))),
    ("each change of a per-row batch stands for itself", |f| Box::pin(writing::per_row(f))),
    ("one open row per decky, by policy", |f| Box::pin(writing::overlap(f))),
    ("a key repeats its answer and refuses another request", |f| Box::pin(writing::keys(f))),
    ("a cancel is noted once and keeps the status", |f| Box::pin(writing::annotate(f))),
    ("the feed has every change once, in order", |f| Box::pin(reading::feed(f))),
    ("queries filter, newest first", |f| Box::pin(reading::queries(f))),
    ("due rows come by deadline", |f| Box::pin(reading::due(f))),
    ("pages are stable under writes", |f| Box::pin(reading::paging(f))),
    ("prune leaves open rows and compacts the feed", |f| Box::pin(reading::prune(f))),
    ("everything is there after reopening", |f| Box::pin(reading::reopens(f))),
    ("concurrent submitters get one revision each", |f| Box::pin(writing::concurrent(f))),
    ("a dropped future lands wholly or not at all", |f| Box::pin(writing::dropped(f))),
    ("values at their bounds come back whole", |f| Box::pin(writing::bounds(f))),
    ("a row notes what it is to bring about, and that it was begun", |f| Box::pin(placements::noted(f))),
    ("what succeeded is as tried, and names its row", |f| Box::pin(placements::succeeds(f))),
    ("what failed for certain leaves all as it was", |f| Box::pin(placements::fails(f))),
    ("what nobody knows the end of leaves its decky unsure", |f| Box::pin(placements::unknown(f))),
    ("what was superseded leaves its decky unsure once it ran", |f| Box::pin(placements::superseded(f))),
    ("a row that was decided on what is placed is refused once that is otherwise", |f| {
        Box::pin(placements::decided_on(f))
    }),
    ("a clash refuses a request whole", |f| Box::pin(clashes::clashes(f))),
    ("a network changes with all of its deckies or not at all", |f| Box::pin(clashes::network(f))),
    ("a decky moves in one batch", |f| Box::pin(clashes::moves(f))),
    ("deckies are taken over and forgotten without a row", |f| Box::pin(placements::taken_over(f))),
    ("placements are found all, by decky, and by home", |f| Box::pin(placements::found(f))),
    ("a refused batch leaves placements as they were", |f| Box::pin(placements::undone(f))),
    ("prune leaves rows that placements name", |f| Box::pin(placements::pruned(f))),
    ("a row and its effect share a revision", |f| Box::pin(placements::revisions(f))),
    ("placements are there after reopening", |f| Box::pin(placements::reopens(f))),
];

/// Runs every case, each on an empty store, and gives all violations.
///
/// # Errors
/// The cases that the store did not pass.
pub async fn check(fixture: &dyn Fixture) -> Result<(), Violations> {
    let mut violations = Vec::new();
    for (case, run) in CASES {
        if let Err(Wrong(what)) = run(fixture).await {
            violations.push(Violation { case, what });
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Violations(violations)) }
}

/// All cases that a store did not pass.
#[derive(Debug)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

impl std::error::Error for Violations {}
