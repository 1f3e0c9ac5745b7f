//! Sends beats, and settles what they told.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_lite::FutureExt;

use crate::beat::{BeatAnswer, BeatAnswerError, Verdict};
use crate::lifecycle::Timestamp;
use crate::store::{Retention, StoreError};

use super::{OutgoingBeat, Shared, body};

/// The first wait after a beat that did not get through; each further one is
/// twice as long, up to the time between beats.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The master, as its worker reaches it.
#[async_trait]
pub trait Master: fmt::Debug + Send + Sync {
    /// `POST /swarm/heartbeat` with this body.
    ///
    /// # Errors
    /// [`MasterError`]: nothing is settled.
    async fn heartbeat(&self, body: &str) -> Result<BeatReply, MasterError>;
}

/// What a master replied to a beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatReply {
    /// 204: it took the beat, and that is all that it says.
    Taken,
    /// 200: a verdict for each delta, and what to stop.
    Answered(BeatAnswer),
}

/// A beat was not taken, as far as its worker knows. It is sent again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MasterError {
    /// No connection, or no answer.
    #[error("the master was not reached: {0}; is it running, and may this host reach it?")]
    Unreachable(String),
    /// No TLS connection came about.
    #[error("no TLS connection with the master: {0}; are both certificates of one CA?")]
    Tls(String),
    /// It answered, and not well.
    #[error("the master answered {status}: {reason}; does it know this host and its certificate?")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its own words.
        reason: String,
    },
    /// Its answer is none.
    #[error(transparent)]
    Answer(#[from] BeatAnswerError),
}

pub(super) async fn settle(
    shared: &Shared,
    beat: &OutgoingBeat,
    reply: &BeatReply,
) -> Result<(), StoreError> {
    if let BeatReply::Answered(answer) = reply {
        for verdict in answer.verdicts.iter().filter(|verdict| **verdict != Verdict::Applied) {
            log::info!(target: "decnet_lifecycle::worker", verdict:? = verdict; "a delta did not count");
        }
        for id in &answer.cancel {
            shared.runner.cancel(*id).await?;
        }
        if answer.verdicts.len() < beat.deltas() {
            log::warn!(target: "decnet_lifecycle::worker", deltas = beat.deltas(), verdicts = answer.verdicts.len(); "the master gave too few verdicts; what it was told is told again");
            return Ok(());
        }
    }
    shared.outbox.settle(beat.upto).await;
    Ok(())
}

pub(super) async fn run(shared: &Shared, master: &dyn Master) {
    let every = shared.settings.beat_every;
    let mut patience = FIRST_WAIT.min(every);
    let mut pruned_at = Timestamp::from_micros(0);
    loop {
        let woken = shared.runner.committed();
        match once(shared, master).await {
            Ok(Told::All) => {
                patience = FIRST_WAIT.min(every);
                prune(shared, &mut pruned_at).await;
                let ended = async {
                    woken.await;
                    until_ended(shared).await;
                };
                ended.or(shared.clock.sleep(every)).await;
            }
            // The master answered and settled nothing, as it would again at
            // once: the next beat comes at its usual time. Nothing is pruned,
            // for the master has not heard all.
            Ok(Told::Nothing) => shared.clock.sleep(every).await,
            Ok(Told::Some) => patience = FIRST_WAIT.min(every),
            Err(error) => {
                let error = shared.runner.secrets().hide(&error.to_string());
                log::warn!(target: "decnet_lifecycle::worker", error:% = error; "a beat was not taken");
                shared.clock.sleep(patience).await;
                patience = (patience * 2).min(every);
            }
        }
    }
}

/// What the master has heard of all that has ended.
enum Told {
    All,
    Some,
    /// No more than before: it answered, and settled nothing.
    Nothing,
}

async fn once(shared: &Shared, master: &dyn Master) -> Result<Told, NotTold> {
    let beat = body::beat(shared).await?;
    let reply = master.heartbeat(beat.body()).await?;
    settle(shared, &beat, &reply).await?;
    let is_settled = shared.outbox.settled() >= beat.upto;
    Ok(match (is_settled, beat.is_all) {
        (false, _) => Told::Nothing,
        (true, true) => Told::All,
        (true, false) => Told::Some,
    })
}

#[derive(Debug, thiserror::Error)]
enum NotTold {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Master(#[from] MasterError),
}

/// Waits until there is something to tell.
async fn until_ended(shared: &Shared) {
    loop {
        let woken = shared.runner.committed();
        match shared.outbox.next(&*shared.store).await {
            Ok(stretch) if stretch.ended.is_empty() => woken.await,
            // A store that can't be read is the next beat's to say.
            _ => return,
        }
    }
}

/// Once an hour, and only while the master has heard all: an end that it has
/// not heard must not go.
async fn prune(shared: &Shared, last: &mut Timestamp) {
    let now = shared.clock.now();
    if now.since(*last) < Duration::from_secs(3_600) {
        return;
    }
    *last = now;
    let policy = Retention::closed_before(now.minus(shared.settings.keep_closed));
    while let Ok(pruned) = shared.store.prune(&policy).await {
        if !pruned.more {
            return;
        }
    }
}
