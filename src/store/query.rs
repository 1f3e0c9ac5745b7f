//! What is asked of a store, and what prune keeps.

use std::fmt;
use std::str::FromStr;

use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Record, Status, Timestamp};
use crate::placement::{Home, Placement};

/// Which rows to list, newest first; due ones by their deadline.
///
/// ```
/// use decnet_lifecycle::{DeckyName, store::Query};
///
/// let query = Query::new().decky(DeckyName::parse("decky-01")?).open().limit(20);
/// assert_eq!(query.limit, 20);
/// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// Only this decky's.
    pub decky: Option<DeckyName>,
    /// Only this worker host's.
    pub host: Option<HostId>,
    /// Only this operation.
    pub operation: Option<Operation>,
    /// Only rows in this status.
    pub status: Option<Status>,
    /// Only rows that are open, or any.
    pub open_only: OpenOnly,
    /// Only open rows whose deadline is at or before this, earliest first.
    pub due_by: Option<Timestamp>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// The most rows of a page, at most [`Query::MAX_LIMIT`].
    pub limit: usize,
}

/// Whether closed rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenOnly {
    /// Open and closed rows.
    #[default]
    No,
    /// Open rows only.
    Yes,
}

impl Query {
    /// The most rows that a page may have.
    pub const MAX_LIMIT: usize = 1_000;

    /// All rows, newest first, in pages of 200.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            decky: None,
            host: None,
            operation: None,
            status: None,
            open_only: OpenOnly::No,
            due_by: None,
            after: None,
            limit: 200,
        }
    }

    /// Only this decky's rows.
    #[must_use]
    pub fn decky(mut self, decky: DeckyName) -> Self {
        self.decky = Some(decky);
        self
    }

    /// Only this host's rows.
    #[must_use]
    pub fn host(mut self, host: HostId) -> Self {
        self.host = Some(host);
        self
    }

    /// Only this operation's rows.
    #[must_use]
    pub const fn operation(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only rows in this status.
    #[must_use]
    pub const fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Only open rows.
    #[must_use]
    pub const fn open(mut self) -> Self {
        self.open_only = OpenOnly::Yes;
        self
    }

    /// Only open rows due at or before this time, earliest first.
    #[must_use]
    pub const fn due_by(mut self, at: Timestamp) -> Self {
        self.due_by = Some(at);
        self
    }

    /// Goes on where a page ended.
    #[must_use]
    pub const fn after(mut self, cursor: Option<Cursor>) -> Self {
        self.after = cursor;
        self
    }

    /// At most this many rows a page.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Whether only open rows can match.
    pub(crate) fn wants_open(&self) -> bool {
        self.open_only == OpenOnly::Yes || self.due_by.is_some() || self.status.is_some_and(Status::is_open)
    }

    /// The most rows that the page really has: the limit within its bounds.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.limit.clamp(1, Self::MAX_LIMIT)
    }

    /// Whether a row is one of those asked for; the page is another matter.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.decky.as_ref().is_none_or(|decky| *decky == record.decky)
            && self.host.as_ref().is_none_or(|host| Some(host) == record.host.as_ref())
            && self.operation.is_none_or(|operation| operation == record.operation)
            && self.status.is_none_or(|status| status == record.status())
            && (self.open_only == OpenOnly::No || record.is_open())
            && self.due_by.is_none_or(|at| record.deadline().is_some_and(|deadline| deadline <= at))
    }

    /// Whether a row lies behind the cursor, in the query's order.
    #[must_use]
    pub fn is_past_cursor(&self, record: &Record) -> bool {
        let Some(cursor) = self.after else { return true };
        match (self.due_by, record.deadline()) {
            (Some(_), Some(deadline)) => {
                cursor.deadline.is_none_or(|from| (deadline, record.id) > (from, cursor.id))
            }
            _ => record.id < cursor.id,
        }
    }

    /// The cursor that a page ending with this row hands out.
    ///
    /// ```
    /// use decnet_lifecycle::{Record, store::Query};
    ///
    /// /// What a store of one's own does with all of its rows, in the query's order.
    /// fn page(query: &Query, rows: &[Record]) -> decnet_lifecycle::store::Page {
    ///     let mut matching = rows.iter().filter(|row| query.matches(row) && query.is_past_cursor(row));
    ///     let records: Vec<Record> = matching.by_ref().take(query.page_size()).cloned().collect();
    ///     let more = matching.next().is_some();
    ///     let next = records.last().filter(|_| more).map(|last| query.cursor_at(last));
    ///     decnet_lifecycle::store::Page { records, next, damaged: Vec::new() }
    /// }
    /// # assert_eq!(page(&Query::new(), &[]).next, None);
    /// ```
    #[must_use]
    pub fn cursor_at(&self, record: &Record) -> Cursor {
        match (self.due_by, record.deadline()) {
            (Some(_), Some(deadline)) => Cursor { deadline: Some(deadline), id: record.id },
            _ => Cursor { deadline: None, id: record.id },
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self::new()
    }
}

/// Which placements are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlacementQuery {
    /// All of them.
    All,
    /// These deckies'.
    Of(Vec<DeckyName>),
    /// All that are, may be, or are to be at a home.
    At(Home),
}

impl PlacementQuery {
    /// Whether a placement is one of those asked for.
    #[must_use]
    pub fn matches(&self, placement: &Placement) -> bool {
        match self {
            Self::All => true,
            Self::Of(deckies) => deckies.contains(&placement.decky),
            Self::At(home) => placement.possibilities().any(|placed| placed.home == *home),
        }
    }
}

/// Where a page ended: a text for callers, stable while rows come and go, and short
/// enough for a URL.
///
/// ```
/// use decnet_lifecycle::store::Cursor;
///
/// let text = "00000000000000000000000000000001";
/// assert_eq!(text.parse::<Cursor>()?.to_string(), text);
/// assert!("page 2".parse::<Cursor>().is_err());
/// # Ok::<(), decnet_lifecycle::store::ParseCursorError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cursor {
    /// The last row's deadline, where rows come by their deadlines.
    pub deadline: Option<Timestamp>,
    /// The last row.
    pub id: LifecycleId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(deadline) = self.deadline {
            write!(f, "{}.", deadline.as_micros())?;
        }
        write!(f, "{:032x}", self.id.as_u128())
    }
}

/// The text is not a page cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a page cursor is taken from the answer of the page before, unchanged")]
pub struct ParseCursorError(());

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseCursorError(());
        let (deadline, id) = match text.split_once('.') {
            Some((deadline, id)) => {
                let micros: i64 = deadline.parse().map_err(|_| bad())?;
                (Some(Timestamp::from_micros(micros)), id)
            }
            None => (None, text),
        };
        if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(bad());
        }
        let id = u128::from_str_radix(id, 16).map_err(|_| bad())?;
        Ok(Self { deadline, id: LifecycleId::from_u128(id) })
    }
}

/// One page of rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The rows, in the query's order.
    pub records: Vec<Record>,
    /// Where to go on; none if this was the last page.
    pub next: Option<Cursor>,
    /// Rows that are there and can't be read, each damaged by itself; they may
    /// be what was asked for or not.
    pub damaged: Vec<LifecycleId>,
}

/// What prune keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Rows that closed before this go; so do feed entries from before it.
    pub closed_before: Timestamp,
    /// The most rows, and the most feed entries, to remove in one go.
    pub limit: usize,
}

impl Retention {
    /// Removes what closed before this time, a thousand at a go.
    #[must_use]
    pub const fn closed_before(at: Timestamp) -> Self {
        Self { closed_before: at, limit: 1_000 }
    }

    /// Another bound on one go.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// What prune removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Rows removed.
    pub rows: usize,
    /// Feed entries removed.
    pub entries: usize,
    /// Whether there may be more to remove: call again.
    pub more: bool,
}
