//! What the store's thread writes: what has gathered becomes one transaction.

use std::sync::Arc;
use std::time::Instant;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_lite::future::or;

use crate::decide::{Batch, Outcome};
use crate::lifecycle::Revision;
use crate::store::{Pruned, Retention, StoreError};

use super::alone::{Alone, Asked};
use super::commit::{Failed, commit};
use super::connect::{Connector, Link};
use super::doubt::{Doubt, was_committed};
use super::error::{Cause, Trouble};
use super::patience::Tries;
use super::prune;

/// The most changes in one transaction.
const GROUP: usize = 4_096;

pub(super) type Reply<T> = Sender<Result<T, StoreError>>;

/// What the thread is asked to do.
pub(super) enum Command {
    Commit { batch: Batch, reply: Reply<Vec<Outcome>> },
    Prune { policy: Retention, reply: Reply<Pruned> },
    Close { reply: Reply<()> },
}

pub(super) struct Writer {
    connector: Connector,
    commands: Receiver<Command>,
    link: Option<Link>,
    /// The lock of the only writer, where that is wanted.
    alone: Option<Alone>,
    /// The newest revision that was seen to be durable.
    newest: Revision,
    /// Since when no server has answered.
    down_since: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        connector: Connector,
        commands: Receiver<Command>,
        link: Link,
        alone: Option<Alone>,
    ) -> Self {
        let link = Some(link);
        Self { connector, commands, link, alone, newest: Revision::ZERO, down_since: None }
    }

    /// Writes until it is told to close, or nobody can tell it anything.
    pub(super) async fn run(mut self) {
        let mut held: Option<Command> = None;
        loop {
            let command = match held.take() {
                Some(command) => command,
                None => match self.next().await {
                    Some(command) => command,
                    None => break,
                },
            };
            match command {
                Command::Commit { batch, reply } => {
                    let (batches, replies);
                    (batches, replies, held) = self.gather(batch, reply);
                    self.answer(&batches, &replies).await;
                }
                Command::Prune { policy, reply } => {
                    let _ = reply.try_send(self.prune(&policy).await);
                }
                Command::Close { reply } => {
                    self.commands.close();
                    // What came before it is done already, what came after is not.
                    std::iter::from_fn(|| self.commands.try_recv().ok()).for_each(refuse);
                    self.link = None;
                    self.alone = None;
                    let _ = reply.try_send(Ok(()));
                    break;
                }
            }
        }
    }

    /// The next command; a lock that is lost meanwhile is taken again at once,
    /// before another does.
    async fn next(&mut self) -> Option<Command> {
        loop {
            let lost = async {
                match &self.alone {
                    Some(alone) => alone.lost().await,
                    None => std::future::pending().await,
                }
                Err(())
            };
            match or(async { Ok(self.commands.recv().await.ok()) }, lost).await {
                Ok(command) => return command,
                Err(()) => {
                    let mut tries = Tries::new(self.down_since);
                    // Whoever commits next is told what came of it.
                    while let Err(Trouble::Again(_)) = self.still_alone().await {
                        if !self.commands.is_empty() || !self.pause(&mut tries).await {
                            return self.commands.recv().await.ok();
                        }
                    }
                    if self.alone.as_ref().is_some_and(Alone::is_lost) {
                        return self.commands.recv().await.ok();
                    }
                }
            }
        }
    }

    /// Takes what else is waiting, up to a bound; a command that isn't a
    /// commit ends the group and is handed back.
    fn gather(
        &self,
        batch: Batch,
        reply: Reply<Vec<Outcome>>,
    ) -> (Vec<Batch>, Vec<Reply<Vec<Outcome>>>, Option<Command>) {
        let mut changes = batch.changes.len();
        let (mut batches, mut replies) = (vec![batch], vec![reply]);
        while changes < GROUP {
            match self.commands.try_recv() {
                Ok(Command::Commit { batch, reply }) => {
                    changes += batch.changes.len();
                    batches.push(batch);
                    replies.push(reply);
                }
                Ok(other) => return (batches, replies, Some(other)),
                Err(_) => break,
            }
        }
        (batches, replies, None)
    }

    /// Commits a group as one, and tells each of it what became of it.
    async fn answer(&mut self, batches: &[Batch], replies: &[Reply<Vec<Outcome>>]) {
        match self.commit(batches).await {
            Ok(outcomes) => {
                for (reply, outcome) in replies.iter().zip(outcomes) {
                    let _ = reply.try_send(Ok(outcome));
                }
            }
            // One batch broke a rule, met a damaged row, or holds what the
            // server can't keep: the others are not to suffer for it.
            Err(Group::AtFault(_)) if batches.len() > 1 => {
                for (batch, reply) in batches.iter().zip(replies) {
                    let result = self.commit(std::slice::from_ref(batch)).await;
                    let result = result.map(|mut outcomes| outcomes.pop().unwrap_or_default());
                    let _ = reply.try_send(result.map_err(Group::into_error));
                }
            }
            Err(group) => {
                let error = group.into_error();
                for reply in replies {
                    let _ = reply.try_send(Err(error.clone()));
                }
            }
        }
    }

    async fn commit(&mut self, batches: &[Batch]) -> Result<Vec<Vec<Outcome>>, Group> {
        let mut doubt: Option<Box<Doubt>> = None;
        let mut tries = Tries::new(self.down_since);
        loop {
            let trouble = match self.attempt(batches, &mut doubt).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(trouble) => trouble,
            };
            let (cause, again) = match trouble {
                Trouble::Again(cause) => (cause, self.pause(&mut tries).await),
                Trouble::Wrong(cause) => (cause, false),
                Trouble::Store(error) if doubt.is_none() => return Err(Group::AtFault(error)),
                Trouble::Store(error) => (Cause::new(error.to_string()), false),
            };
            if again {
                log::debug!(target: "decnet_lifecycle::store", error:% = cause; "trying a commit again");
                continue;
            }
            let doing = "committing";
            return Err(match doubt {
                Some(_) => Group::Failed(StoreError::unknown(doing, cause)),
                None => Group::AtFault(StoreError::not_committed(doing, cause)),
            });
        }
    }

    async fn attempt(
        &mut self,
        batches: &[Batch],
        doubt: &mut Option<Box<Doubt>>,
    ) -> Result<Vec<Vec<Outcome>>, Trouble> {
        let link = self.link().await?;
        let settings = Arc::clone(&self.connector.settings);
        if let Some(earlier) = doubt.take() {
            // An error leaves the doubt, and drops the connection.
            let earlier = doubt.insert(earlier);
            let committed = was_committed(&link.client, &settings, earlier).await?;
            if let Some(earlier) = doubt.take().filter(|_| committed) {
                self.link = Some(link);
                self.newest = self.newest.max(earlier.done.head);
                return Ok(earlier.done.outcomes);
            }
        }
        match commit(&link.client, &settings, batches, self.newest).await {
            Ok(done) => {
                self.link = Some(link);
                self.newest = self.newest.max(done.head);
                Ok(done.outcomes)
            }
            Err(Failed::Before(Trouble::Store(error))) => {
                // The connection is well, only its transaction is of no use.
                if link.client.batch_execute("rollback").await.is_ok() {
                    self.link = Some(link);
                }
                Err(Trouble::Store(error))
            }
            Err(Failed::Before(trouble)) => Err(trouble),
            Err(Failed::InDoubt(unknown, cause)) => {
                *doubt = Some(unknown);
                Err(Trouble::Again(cause))
            }
        }
    }

    async fn prune(&mut self, policy: &Retention) -> Result<Pruned, StoreError> {
        let mut tries = Tries::new(self.down_since);
        let mut sent = false;
        loop {
            let trouble = match self.prune_once(policy, &mut sent).await {
                Ok(pruned) => return Ok(pruned),
                Err(trouble) => trouble,
            };
            if matches!(trouble, Trouble::Again(_)) && self.pause(&mut tries).await {
                continue;
            }
            return Err(match trouble {
                Trouble::Again(cause) | Trouble::Wrong(cause) if sent => {
                    StoreError::unknown("pruning", cause)
                }
                trouble => trouble.not_done("pruning"),
            });
        }
    }

    async fn prune_once(&mut self, policy: &Retention, sent: &mut bool) -> Result<Pruned, Trouble> {
        let link = self.link().await?;
        let settings = Arc::clone(&self.connector.settings);
        let pruned = prune::prune(&link.client, &settings, policy, sent).await?;
        self.link = Some(link);
        Ok(pruned)
    }

    /// The connection, taken out: who puts it back says that it is well.
    async fn link(&mut self) -> Result<Link, Trouble> {
        self.still_alone().await?;
        if let Some(link) = self.link.take().filter(|link| !link.is_closed()) {
            return Ok(link);
        }
        match self.connector.connect().await {
            Ok(link) => {
                if self.down_since.take().is_some() {
                    log::info!(target: "decnet_lifecycle::store", "the database is there again");
                }
                Ok(link)
            }
            Err(trouble) => {
                self.down();
                Err(trouble)
            }
        }
    }

    /// Takes the lock of the only writer again if it is lost.
    async fn still_alone(&mut self) -> Result<(), Trouble> {
        if !self.alone.as_ref().is_some_and(Alone::is_lost) {
            return Ok(());
        }
        match Alone::ask(&self.connector, self.alone.as_ref()).await.inspect_err(|_| self.down())? {
            Asked::Ours(alone) => {
                self.alone = Some(alone);
                Ok(())
            }
            Asked::Theirs(by) => {
                let why = format!("another master has taken the database ({by})");
                Err(Trouble::Store(StoreError::Closed { why }))
            }
        }
    }

    fn down(&mut self) {
        if self.down_since.is_none() {
            log::warn!(target: "decnet_lifecycle::store", "the database can't be reached");
            self.down_since = Some(Instant::now());
        }
    }

    /// Waits before the next try; false if there is to be none.
    async fn pause(&mut self, tries: &mut Tries) -> bool {
        // Whoever closes the store doesn't wait for a server that is gone.
        let patience = match self.commands.is_closed() {
            true => std::time::Duration::ZERO,
            false => self.connector.settings.patience,
        };
        match tries.failed(patience) {
            Some(pause) => {
                Timer::after(pause).await;
                true
            }
            None => false,
        }
    }
}

/// Why a group was not committed.
enum Group {
    /// Maybe for one batch of it; nothing was written.
    AtFault(StoreError),
    Failed(StoreError),
}

impl Group {
    fn into_error(self) -> StoreError {
        match self {
            Self::AtFault(error) | Self::Failed(error) => error,
        }
    }
}

impl Drop for Writer {
    /// However the writer ends, nobody waits for it in vain.
    fn drop(&mut self) {
        self.commands.close();
        std::iter::from_fn(|| self.commands.try_recv().ok()).for_each(refuse);
    }
}

fn refuse(command: Command) {
    match command {
        Command::Commit { reply, .. } => drop(reply.try_send(Err(closed()))),
        Command::Prune { reply, .. } => drop(reply.try_send(Err(closed()))),
        Command::Close { reply } => drop(reply.try_send(Ok(()))),
    }
}

pub(super) fn closed() -> StoreError {
    StoreError::Closed { why: "it was closed".to_owned() }
}
