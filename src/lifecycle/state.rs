//! The states as types, and the handle to a row that is durable in one.

use std::fmt;
use std::marker::PhantomData;

use super::record::{Operation, Phase, Record, Revision, Status};
use super::{DeckyName, HostId, LifecycleId, Timestamp};

mod sealed {
    pub trait Sealed {}
}

/// A state of the graph: [`Pending`], [`Running`], [`Succeeded`] or
/// [`Failed`]. Sealed: there are no others.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a lifecycle state",
    label = "not one of Pending, Running, Succeeded, Failed"
)]
pub trait State: sealed::Sealed + Send + Sync + 'static {
    /// The state's word on the wire.
    const STATUS: Status;
}

/// Accepted and durable, not started.
#[derive(Debug)]
pub enum Pending {}

/// Started: holding a `Lifecycle<Running>` proves that `running` is durable.
#[derive(Debug)]
pub enum Running {}

/// Ended on positive evidence.
#[derive(Debug)]
pub enum Succeeded {}

/// Ended without.
#[derive(Debug)]
pub enum Failed {}

impl sealed::Sealed for Pending {}
impl sealed::Sealed for Running {}
impl sealed::Sealed for Succeeded {}
impl sealed::Sealed for Failed {}

impl State for Pending {
    const STATUS: Status = Status::Pending;
}
impl State for Running {
    const STATUS: Status = Status::Running;
}
impl State for Succeeded {
    const STATUS: Status = Status::Succeeded;
}
impl State for Failed {
    const STATUS: Status = Status::Failed;
}

/// The handle to one row that is durable in state `S`.
///
/// There is one way to get one: from the journal, which has just committed or
/// read the row. It can't be cloned or built by hand, and every step consumes
/// it, so a step can't be taken twice or from the wrong state. What the types
/// can't see (another process, a second handle read from the store) the store
/// refuses by the row's revision.
///
/// A handle that is dropped while its row is open says so in the log at debug
/// level: the row then waits for its deadline. [`Lifecycle::hand_over`] is the
/// spelled-out way to leave a running row to its worker.
///
/// ```compile_fail
/// use decnet_lifecycle::lifecycle::{Lifecycle, Pending};
/// fn twice(row: Lifecycle<Pending>) -> (Lifecycle<Pending>, Lifecycle<Pending>) {
///     (row.clone(), row)
/// }
/// ```
#[must_use = "a lifecycle that is dropped while open waits for its deadline; take a step or hand it over"]
pub struct Lifecycle<S: State> {
    record: Box<Record>,
    guard: OpenGuard,
    state: PhantomData<fn() -> S>,
}

impl<S: State> Lifecycle<S> {
    /// Makes the handle if the record is in the state.
    pub(crate) fn from_record(record: Record) -> Result<Self, Box<Record>> {
        if record.status() != S::STATUS {
            return Err(Box::new(record));
        }
        let guard = OpenGuard { id: record.is_open().then_some(record.id) };
        Ok(Self { record: Box::new(record), guard, state: PhantomData })
    }

    /// Takes the record out of the handle; the guard stays quiet.
    pub(crate) fn into_record(mut self) -> Record {
        self.guard.id = None;
        *self.record
    }

    /// Which lifecycle.
    #[must_use]
    pub fn id(&self) -> LifecycleId {
        self.record.id
    }

    /// The decky it is about.
    #[must_use]
    pub fn decky(&self) -> &DeckyName {
        &self.record.decky
    }

    /// The worker host that does the work; none is the master's own.
    #[must_use]
    pub fn host(&self) -> Option<&HostId> {
        self.record.host.as_ref()
    }

    /// What is being done.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.record.operation
    }

    /// The change that last wrote the row.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.record.revision
    }

    /// When it was accepted.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    /// The row as it was when this handle was made.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record one step on: a copy with the new phase and time.
    pub(super) fn stepped(&self, at: Timestamp, phase: impl FnOnce(&Record, Timestamp) -> Phase) -> Record {
        // A wall clock may step back; a row's own times never do.
        let at = at.max(self.record.updated_at);
        Record { phase: phase(&self.record, at), updated_at: at, ..(*self.record).clone() }
    }
}

impl<S: State> fmt::Debug for Lifecycle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lifecycle<{}>({}, {})", S::STATUS, self.record.id, self.record.decky)
    }
}

/// Says in the log that an open handle was dropped.
struct OpenGuard {
    id: Option<LifecycleId>,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            log::debug!(
                target: "decnet_lifecycle::machine",
                lifecycle_id:% = id;
                "a handle was dropped while its row is open; the row waits for its deadline"
            );
        }
    }
}

/// A row that was read from a store: match, and the types hold again.
#[derive(Debug)]
#[must_use = "a lifecycle that is dropped while open waits for its deadline"]
pub enum AnyLifecycle {
    /// Accepted, not started.
    Pending(Lifecycle<Pending>),
    /// Started, not ended.
    Running(Lifecycle<Running>),
    /// Ended well.
    Succeeded(Lifecycle<Succeeded>),
    /// Ended badly.
    Failed(Lifecycle<Failed>),
}

impl AnyLifecycle {
    pub(crate) fn from_record(record: Record) -> Self {
        let guard = OpenGuard { id: record.is_open().then_some(record.id) };
        let status = record.status();
        let record = Box::new(record);
        match status {
            Status::Pending => Self::Pending(Lifecycle { record, guard, state: PhantomData }),
            Status::Running => Self::Running(Lifecycle { record, guard, state: PhantomData }),
            Status::Succeeded => Self::Succeeded(Lifecycle { record, guard, state: PhantomData }),
            Status::Failed => Self::Failed(Lifecycle { record, guard, state: PhantomData }),
        }
    }

    /// The row as it was when it was read.
    #[must_use]
    pub fn record(&self) -> &Record {
        match self {
            Self::Pending(row) => row.record(),
            Self::Running(row) => row.record(),
            Self::Succeeded(row) => row.record(),
            Self::Failed(row) => row.record(),
        }
    }
}

/// How a running lifecycle ended.
#[derive(Debug)]
pub enum Closed {
    /// On positive evidence.
    Succeeded(Lifecycle<Succeeded>),
    /// Without.
    Failed(Lifecycle<Failed>),
}
