//! Workers that name no rows: what is remembered of their words and of what
//! their beats show, and what of it ends a row. Pure.
//!
//! DECNET's agent posts how an operation ended once, without saying which call
//! it was. So a word may be lost, and one that comes may be an earlier call's.
//! A deploy has words for all deckies of the host, also those without a row of
//! the call. What it does say in every beat is what it keeps and what runs. *Silent* is
//! an earlier row of the same decky, operation and host that ran and ended
//! without the worker's word, not longer ago than an operation may take: its
//! word may still come; and so is, for a decky's deploy, an earlier deploy of
//! others that had it, until 90 s after it has had its say.
//!
//! | evidence | no earlier row is silent | some are |
//! |---|---|---|
//! | a word that claims to be older than the dispatch, by more than clocks differ | counts for nothing | the same |
//! | a word with the claim of one that has ended an earlier row, or an older one; or without a claim where there are earlier rows | counts for nothing | the same |
//! | any other word | ends the row | see the next three |
//! | .. and since the last of them was begun, and before the dispatch, as many words were heard as there are silent rows | | ends the row: the earlier calls have had their say |
//! | .. and with it there are more words than silent rows, and all since the dispatch agree | | ends the row: one of them is its own |
//! | .. good, and its beat shows the decky as this row wants it, and no silent row wanted it so | | ends the row well |
//! | .. else | | is kept, told in the log and in explanations, and counts as heard |
//! | another row of the same call was ended by a word, 90 s ago | ends it as that one failed; or well, if the beat shows it as asked or shows nothing | the same |
//! | .. well, and for 5 min no beat has shown it as asked | fails it | the same |
//! | at least three beats in 90 s show the decky as asked, and one since the dispatch, or the last before it, otherwise | ends it well | the same |
//! | no beat has shown it otherwise, for 5 min | ends it well | the same |
//! | it was asked to stop | fails it: the worker can't be asked | the same |
//! | silence, the deadline | fail it | the same |
//!
//! A later deploy of others has a word of the decky as well. It ends the row, for
//! it is as true of the decky; that the row's own call is over it doesn't say, so
//! the row stays silent.
//!
//! A teardown is answered when it is done, and no word is said of it. If the
//! master restarts meanwhile, that nothing of the decky runs is its evidence.
//!
//! What clocks say counts in the first two lines only, and there against a
//! word: a refusal is safe. No post is taken to be on its way for longer than
//! 90 s ([`Deadlines::unknown`]; 5 min are [`Deadlines::silence`]), and no call
//! to speak after the time that an operation may take has gone by twice. That a
//! worker was silent and is heard again doesn't say that it restarted.
//!
//! All of this is in memory. A master that restarts has fewer words, and so
//! takes fewer for a row's own; what beats show is soon seen again.
//!
//! [`Deadlines::unknown`]: crate::runner::Deadlines::unknown
//! [`Deadlines::silence`]: crate::runner::Deadlines::silence

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lifecycle::{DeckyName, LifecycleId, Operation, ServiceName, Timestamp};

/// How many beats in a row must show a decky as asked.
const BEATS: u32 = 3;
/// Words that are kept of one decky and operation; and of how many of those, and
/// how many ended rows. Beyond that all are forgotten, which is as after a
/// restart.
const WORDS: usize = 16;
const KEPT: usize = 4_096;

/// What a beat shows of a decky, beside what a row is to make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Exactly that runs.
    AsAsked,
    /// Something else, or nothing, runs.
    Otherwise,
    /// The beat doesn't tell what runs.
    Untold,
}

/// How long a decky must be seen as asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    /// If it was seen otherwise before; as long as a post may be on its way.
    pub(crate) changed: Duration,
    /// If it was never seen otherwise.
    pub(crate) unchanged: Duration,
}

/// What ends a row without a word of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Its decky is as asked.
    Seen,
    /// The same call failed for another decky, with this word.
    CallFailed(String),
    /// The same call went well for another decky, and this one isn't seen up.
    LeftOut,
    /// It was asked to stop, and nobody can be told.
    Cancelled,
}

/// How the call that a row came with has ended, by the word for another row.
#[derive(Debug, Clone)]
struct Over {
    at: Duration,
    failed: Option<String>,
}

/// What is remembered of a running row.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// Which call its worker was sent it by.
    pub(crate) call: Option<u64>,
    /// How many words had been heard when it was begun.
    pub(super) begun: u64,
    over: Option<Over>,
    is_looked_at: bool,
    was_otherwise: bool,
    /// Since when, and in how many beats, it has been seen as asked.
    as_asked: Option<(Duration, u32)>,
    otherwise_since: Option<Duration>,
    wants: Option<Vec<ServiceName>>,
    /// Whether its call is over, and its word, if it has not come, is lost.
    has_spoken: bool,
    /// The last word that was not taken, and why.
    pub(crate) doubt: Option<String>,
}

impl Watched {
    pub(crate) fn begun_after(words: &Words) -> Self {
        Self { begun: words.heard, ..Self::default() }
    }

    /// Whether its call is known to be over.
    pub(crate) fn set_over(&mut self, at: Duration, failed: Option<&str>) {
        self.over.get_or_insert_with(|| Over { at, failed: failed.map(ToOwned::to_owned) });
    }

    /// A beat shows this of its decky, and the one before it that; what ends
    /// the row by it, if anything does.
    pub(crate) fn look(
        &mut self,
        (before, now): (Sight, Sight),
        wants: &[ServiceName],
        at: Duration,
        steady: Steady,
    ) -> Option<End> {
        self.wants.get_or_insert_with(|| wants.to_vec());
        if !std::mem::replace(&mut self.is_looked_at, true) {
            self.was_otherwise = before == Sight::Otherwise;
        }
        match now {
            Sight::AsAsked => {
                self.otherwise_since = None;
                self.as_asked.get_or_insert((at, 0)).1 += 1;
            }
            Sight::Otherwise => {
                self.as_asked = None;
                self.was_otherwise = true;
                self.otherwise_since.get_or_insert(at);
            }
            Sight::Untold => {}
        }
        // What a beat doesn't tell says nothing of the time since the last that did.
        let is_seen = now == Sight::AsAsked && self.is_steady(at, steady);
        let end = self.by_call(now, at, steady).or_else(|| is_seen.then_some(End::Seen));
        self.has_spoken |= end.is_some() && (self.over.is_some() || self.was_otherwise);
        end
    }

    fn by_call(&self, now: Sight, at: Duration, steady: Steady) -> Option<End> {
        let over = self.over.as_ref().filter(|over| at.saturating_sub(over.at) >= steady.changed)?;
        let missed = self.otherwise_since.map(|since| at.saturating_sub(since.max(over.at)));
        match (&over.failed, now) {
            (Some(failed), _) => Some(End::CallFailed(failed.clone())),
            (None, Sight::AsAsked | Sight::Untold) => Some(End::Seen),
            (None, Sight::Otherwise) => missed.filter(|long| *long >= steady.unchanged).map(|_| End::LeftOut),
        }
    }

    fn is_steady(&self, at: Duration, steady: Steady) -> bool {
        let long = if self.was_otherwise { steady.changed } else { steady.unchanged };
        self.as_asked.is_some_and(|(since, beats)| beats >= BEATS && at.saturating_sub(since) >= long)
    }

    /// For how long it has been seen as asked.
    pub(crate) fn seen_for(&self, at: Duration) -> Option<Duration> {
        self.as_asked.map(|(since, _)| at.saturating_sub(since))
    }
}

/// A word that ended no row.
#[derive(Debug, Clone, Copy)]
struct Word {
    claim: Timestamp,
    is_good: bool,
    number: u64,
    at: Duration,
}

/// The words of one worker that ended no row, and what its ended rows were.
#[derive(Debug, Default)]
pub(crate) struct Words {
    heard: u64,
    of: BTreeMap<(DeckyName, Operation), Vec<Word>>,
    /// Ended rows whose word can't be on its way any more.
    over: BTreeSet<LifecycleId>,
    wanted: BTreeMap<LifecycleId, Vec<ServiceName>>,
    /// How many words had been heard when ended rows were begun.
    begun: BTreeMap<LifecycleId, u64>,
}

/// Earlier rows and calls whose words may still come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silent<'s> {
    /// The rows, and of each call without a row of the decky another row of it.
    pub(crate) rows: &'s [LifecycleId],
    /// The claims of words that have ended rows, which count for nothing.
    pub(crate) spent: &'s [Timestamp],
}

/// What a word comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It is the row's own.
    Own,
    /// It or one like it is the row's own.
    Agreed,
    /// It may be another's.
    Doubtful,
}

impl Words {
    /// Keeps a word that ended nothing; one that is kept already is not another.
    pub(crate) fn keep(
        &mut self,
        decky: &DeckyName,
        operation: Operation,
        (claim, is_good): (Timestamp, bool),
        at: Duration,
        patience: Duration,
    ) {
        if self.of.len() >= KEPT {
            self.of.clear();
        }
        self.heard += 1;
        let words = self.of.entry((decky.clone(), operation)).or_default();
        words.retain(|word| at.saturating_sub(word.at) < patience);
        if words.iter().any(|word| word.claim == claim) {
            return;
        }
        if words.len() >= WORDS {
            words.clear();
        }
        words.push(Word { claim, is_good, number: self.heard, at });
    }

    /// What a word comes to for this row. A word that was heard before the last of
    /// the silent ones was begun, after so many words, is not that one's.
    pub(crate) fn weigh(
        &self,
        decky: &DeckyName,
        operation: Operation,
        row: &Watched,
        (claim, is_good): (Timestamp, bool),
        (silent, began): (Silent<'_>, u64),
    ) -> Weight {
        let many = silent.rows.len();
        let words = self.of.get(&(decky.clone(), operation)).into_iter().flatten();
        let others = words.filter(|word| word.claim != claim && !silent.spent.contains(&word.claim));
        let (before, since): (Vec<&Word>, Vec<&Word>) = others.partition(|word| word.number <= row.begun);
        let before = before.iter().filter(|word| word.number > began).count();
        if before >= many {
            Weight::Own
        } else if before + since.len() + 1 > many && since.iter().all(|word| word.is_good == is_good) {
            Weight::Agreed
        } else {
            Weight::Doubtful
        }
    }

    /// How many words had been heard when an ended row was begun.
    pub(crate) fn begun(&self, id: LifecycleId) -> Option<u64> {
        self.begun.get(&id).copied()
    }

    /// The row has ended.
    pub(crate) fn ended(&mut self, id: LifecycleId, row: Watched) {
        if self.wanted.len() >= KEPT {
            self.wanted.clear();
        }
        if let Some(wants) = row.wants.clone() {
            self.wanted.insert(id, wants);
        }
        if self.begun.len() >= KEPT {
            // Without these no word can be told from an older one.
            self.begun.clear();
            self.of.clear();
        }
        self.begun.insert(id, row.begun);
        if row.has_spoken {
            self.over(id);
        }
    }

    /// No word of this row can be on its way any more.
    pub(crate) fn over(&mut self, id: LifecycleId) {
        if self.over.len() >= KEPT {
            self.over.clear();
        }
        self.over.insert(id);
    }

    pub(crate) fn is_over(&self, id: LifecycleId) -> bool {
        self.over.contains(&id)
    }

    /// Whether this ended row is known to have wanted other services.
    pub(crate) fn wanted_other_than(&self, id: LifecycleId, services: &[ServiceName]) -> bool {
        let sorted = |services: &[ServiceName]| services.iter().cloned().collect::<BTreeSet<_>>();
        self.wanted.get(&id).is_some_and(|wanted| sorted(wanted) != sorted(services))
    }
}
