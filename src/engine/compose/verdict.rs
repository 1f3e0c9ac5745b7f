//! Whether deckies really are up: each container runs, shares its base's
//! present network namespace, is healthy where it can say so, answers at its
//! TCP port, or at one of several, and has stayed so for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;

use crate::engine::Work;
use crate::lifecycle::{DeckyName, Failure, FailureKind};

use super::containers::{self, Cut, Seen, State};
use super::document::ComposeFile;
use super::door::House;
use super::failed;
use super::settings::ComposeSettings;
use super::tool::{AskError, Tool};

const STEP: Duration = Duration::from_millis(250);
/// A container that has ended by itself so often won't stand.
const GIVES_UP: u64 = 5;
/// Deckies whose ports are tried at once.
const HOUSES: usize = 32;

/// What deckies are judged by.
pub(super) struct Judge<'j> {
    pub(super) tool: &'j Tool,
    pub(super) settings: &'j ComposeSettings,
    pub(super) work: &'j Work,
    pub(super) file: &'j ComposeFile,
    /// Where each service should answer, by its container.
    pub(super) doors: &'j BTreeMap<String, Vec<SocketAddr>>,
}

/// Where a decky stands at one look.
enum Standing {
    /// Each container runs since this moment.
    Up(BTreeMap<String, Timestamp>),
    /// These services must join their base again.
    CutOff(Vec<Joining>),
    Coming {
        /// Whose last words say more.
        speaker: Option<String>,
        what: String,
    },
    Failed {
        container: String,
        what: String,
    },
}

/// A service by id, and since when its base runs.
type Joining = (String, Timestamp);

/// What earlier looks have shown.
#[derive(Default)]
struct Memory {
    /// Since when a decky has stood as it stands, by its containers' starts.
    stood: BTreeMap<DeckyName, (Duration, BTreeMap<String, Timestamp>)>,
    /// How often a container had ended before the call, by id.
    ended_before: BTreeMap<String, u64>,
    /// The code that a container last ended with.
    codes: BTreeMap<String, i64>,
    /// The ports that have answered since their container's start.
    answered: BTreeSet<(String, Timestamp, SocketAddr)>,
    /// What was told to join its base again.
    rejoined: BTreeSet<Joining>,
}

impl Judge<'_> {
    /// Looks until each decky is decided: up, or not and why. `before` is what
    /// was there before the call.
    pub(super) async fn wait(
        &self,
        deckies: &BTreeSet<DeckyName>,
        before: &[Seen],
    ) -> BTreeMap<DeckyName, Result<(), Failure>> {
        let clock = &self.work.clock;
        let until = clock.monotonic().saturating_add(self.settings.patience);
        let mut decided = BTreeMap::new();
        // Who starts a container that had stopped makes the daemon count anew.
        let ran = before.iter().filter(|one| one.detail.state != State::Ended);
        let ended_before = ran.map(|one| (one.id.clone(), one.detail.restarts)).collect();
        let mut memory = Memory { ended_before, ..Memory::default() };
        while decided.len() < deckies.len() {
            let now = clock.monotonic();
            let is_late = now >= until;
            let left: BTreeSet<&DeckyName> =
                deckies.iter().filter(|decky| !decided.contains_key(*decky)).collect();
            let looked = self.look(&left, &mut memory, now).await;
            for decky in left {
                let verdict = match &looked {
                    _ if self.work.is_cancelled(decky) => {
                        Some(Err(Failure::new(FailureKind::Cancelled, "cancelled while it came up")))
                    }
                    Err(error) if is_late || matches!(error, Blind::Garbled(_)) => Some(Err(error.failure())),
                    Err(_) => None,
                    Ok(standings) => self.verdict(decky, standings.get(decky), is_late).await,
                };
                if let Some(verdict) = verdict {
                    // What failed is still to be taken away.
                    if verdict.is_ok() {
                        self.work.report(decky, &verdict);
                    }
                    decided.insert(decky.clone(), verdict);
                }
            }
            if decided.len() < deckies.len() {
                clock.sleep(STEP.min(self.settings.settle.max(Duration::from_millis(1)))).await;
            }
        }
        decided
    }

    async fn verdict(
        &self,
        decky: &DeckyName,
        standing: Option<&Standing>,
        is_late: bool,
    ) -> Option<Result<(), Failure>> {
        match standing? {
            Standing::Up(_) => {
                super::note(self.work, decky, "up");
                Some(Ok(()))
            }
            Standing::Coming { speaker, what } if is_late => {
                let words = match speaker {
                    Some(speaker) => self.last_words(speaker).await,
                    None => String::new(),
                };
                Some(Err(failed(&format!("{what} after {} s{words}", self.settings.patience.as_secs()))))
            }
            Standing::Coming { .. } | Standing::CutOff(_) => None,
            Standing::Failed { container, what } => {
                let words = self.last_words(container).await;
                Some(Err(failed(&format!("{container} {what}{words}"))))
            }
        }
    }

    async fn last_words(&self, container: &str) -> String {
        let words = containers::last_words(self.tool, self.settings, &self.work.clock, container).await;
        words.map(|words| format!(": {words}")).unwrap_or_default()
    }

    /// Looks once; has services that are cut off join their bases again, and
    /// tries the ports of those that stand.
    async fn look(
        &self,
        deckies: &BTreeSet<&DeckyName>,
        memory: &mut Memory,
        now: Duration,
    ) -> Result<BTreeMap<DeckyName, Standing>, Blind> {
        let seen = containers::see(self.tool, self.settings, &self.work.clock).await?;
        let by_name: BTreeMap<&str, &Seen> = seen.iter().map(|one| (one.name.as_str(), one)).collect();
        let mut standings = BTreeMap::new();
        let mut joining = Vec::new();
        for decky in deckies {
            let standing = self.stand(decky, &by_name, memory);
            if let Standing::CutOff(services) = &standing {
                super::note(self.work, decky, "services join their base again");
                joining.extend(services.iter().cloned());
            }
            standings.insert((*decky).clone(), standing);
        }
        let ids: Vec<&str> = joining.iter().map(|(id, _)| id.as_str()).collect();
        containers::order(self.tool, self.settings, &self.work.clock, &["restart", "-t", "1"], &ids).await?;
        for (id, at) in joining {
            memory.ended_before.remove(&id);
            memory.rejoined.insert((id, at));
        }
        let shut = self.shut(&standings, &by_name, memory).await;
        for (decky, standing) in &mut standings {
            let Standing::Up(started) = standing else {
                memory.stood.remove(decky);
                continue;
            };
            let stood = memory.stood.entry(decky.clone()).or_insert_with(|| (now, started.clone()));
            if stood.1 != *started {
                *stood = (now, started.clone());
            }
            if let Some((container, door)) = shut.get(decky) {
                let what = format!("{container} runs, but nothing answers at {door}");
                *standing = Standing::Coming { speaker: Some(container.clone()), what };
            } else if now.saturating_sub(stood.0) < self.settings.settle {
                let what = format!("{decky} has not stayed up");
                *standing = Standing::Coming { speaker: None, what };
            }
        }
        Ok(standings)
    }

    /// A container none of whose ports answers yet, of each decky that stands
    /// and has one. One port is enough: what is declared is all that a service
    /// can serve, and a template's settings may leave the rest shut, as TLS
    /// without a certificate.
    async fn shut(
        &self,
        standings: &BTreeMap<DeckyName, Standing>,
        by_name: &BTreeMap<&str, &Seen>,
        memory: &mut Memory,
    ) -> BTreeMap<DeckyName, (String, SocketAddr)> {
        let driver = self.settings.driver_for(&self.work.fleet);
        let subnet = self.work.fleet.subnet;
        let mut houses = Vec::new();
        for (decky, standing) in standings {
            let (Standing::Up(started), Some(base)) = (standing, by_name.get(decky.as_str())) else {
                continue;
            };
            let waits = |(container, at): (&String, &Timestamp)| {
                let doors = self.doors.get(container).into_iter().flatten();
                let key = |door: &SocketAddr| (container.clone(), *at, *door);
                let doors: Vec<_> = doors.map(key).collect();
                let answers = doors.iter().any(|door| memory.answered.contains(door));
                if answers { Vec::new() } else { doors }
            };
            let waiting: Vec<(String, Timestamp, SocketAddr)> = started.iter().flat_map(waits).collect();
            if !waiting.is_empty() {
                houses.push((decky.clone(), House::new(&base.detail, driver, subnet), waiting));
            }
        }
        let knocks = houses.into_iter().map(|(decky, house, waiting)| async move {
            let closed = house.closed(waiting.iter().map(|(_, _, door)| *door).collect()).await;
            (decky, waiting, closed)
        });
        let mut knocks = stream::iter(knocks).buffer_unordered(HOUSES);
        let mut shut = BTreeMap::new();
        while let Some((decky, waiting, closed)) = knocks.next().await {
            let (shut_doors, open): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|door| closed.contains(&door.2));
            let silent =
                shut_doors.into_iter().find(|(container, ..)| open.iter().all(|one| one.0 != *container));
            if let Some((container, _, door)) = silent {
                shut.insert(decky, (container, door));
            }
            memory.answered.extend(open);
        }
        shut
    }

    fn stand(&self, decky: &DeckyName, by_name: &BTreeMap<&str, &Seen>, memory: &mut Memory) -> Standing {
        let mut started = BTreeMap::new();
        let mut joining = Vec::new();
        let mut coming = None;
        let base = by_name.get(decky.as_str()).map(|one| &one.detail);
        for name in self.file.containers(decky) {
            let bad = |what: String| Standing::Failed { container: name.to_owned(), what };
            let Some(one) = by_name.get(name) else {
                return bad("was not made, or somebody has removed it; deploy again".to_owned());
            };
            let detail = &one.detail;
            let mut still = |speaker: Option<&str>, what: String| {
                let speaker = speaker.map(str::to_owned);
                coming.get_or_insert(Standing::Coming { speaker, what });
            };
            let before = memory.ended_before.get(&one.id).copied().unwrap_or(0);
            let times = detail.restarts.saturating_sub(before);
            if matches!(detail.state, State::Restarting | State::Ended) {
                memory.codes.insert(name.to_owned(), detail.exit_code);
            }
            if times >= GIVES_UP {
                return bad(format!("keeps ending: {}", ends(times, memory.codes.get(name))));
            }
            let said = if detail.error.is_empty() { String::new() } else { format!(" ({})", detail.error) };
            match detail.state {
                State::Ended => return bad(format!("ended with code {}{said}", detail.exit_code)),
                State::Unhealthy => return bad(format!("is unhealthy{said}")),
                State::Restarting => still(
                    Some(name),
                    format!("{name} has ended {} and is not up", ends(times.max(1), memory.codes.get(name))),
                ),
                State::Coming => still(None, format!("{name} is not up{said}")),
                State::Paused => still(None, format!("{name} is paused")),
                State::Up => {
                    started.insert(name.to_owned(), detail.started_at);
                }
            }
            if one.service.is_none() {
                continue;
            }
            match (detail.cut_from(base), base) {
                (Some(Cut::Left), Some(base)) => {
                    // Once told to, it has joined, whatever the clock says.
                    let key = (one.id.clone(), base.started_at);
                    if !memory.rejoined.contains(&key) {
                        joining.push(key);
                    }
                }
                (Some(_), _) => {
                    return bad(format!("is cut off: it was made for an earlier {decky}; deploy again"));
                }
                (None, _) => {}
            }
        }
        match coming {
            _ if !joining.is_empty() => Standing::CutOff(joining),
            Some(coming) => coming,
            None => Standing::Up(started),
        }
    }
}

fn ends(times: u64, code: Option<&i64>) -> String {
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    code.map_or_else(|| times.clone(), |code| format!("{times}, last with code {code}"))
}

/// Why nothing was seen.
enum Blind {
    /// The engine answered, and nobody can read it: no later look helps.
    Garbled(Failure),
    /// It may see again.
    Now(Failure),
}

impl Blind {
    fn failure(&self) -> Failure {
        match self {
            Self::Garbled(failure) | Self::Now(failure) => failure.clone(),
        }
    }
}

impl From<AskError> for Blind {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unreadable(_) => Self::Garbled(error.into()),
            other => Self::Now(other.into()),
        }
    }
}
