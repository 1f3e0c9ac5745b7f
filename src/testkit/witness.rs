//! Compares what engine, agents and bus are told with what is durable at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_lite::future::{block_on, poll_once};

use crate::agent::{AgentError, Agents, DeployCall, Host, MutateCall, TeardownCall};
use crate::beat::{Delta, Reported, WorkerStatus};
use crate::bus::{Bus, DriftEvent, Event};
use crate::engine::{Engine, LogLine, LogQuery, Progress, Report, Turns, Work};
use crate::fleet::{DeckyRuntime, FleetConfig, Problems};
use crate::lifecycle::{DeckyName, Failure, HostId, LifecycleId, Operation, Record, Secrets, Status};
use crate::store::{Entry, Store, StoreError};

/// Of how many beats it is remembered what they showed to be up.
const SHOWN: usize = 8;

/// Stands between a runner and its engine, agents and bus, and compares what
/// they are told with what is durable at that moment:
///
/// - an engine or agent is called only for rows that are durably running, and
///   an engine at most once for each row;
/// - a row succeeds only after an engine's, an agent's or a worker's word for
///   it (tell it of deltas by [`heard`](Self::heard), and of what beats show by
///   [`shown`](Self::shown));
/// - the bus never says what the store does not say yet.
///
/// Rows must not be pruned while their work goes on: one that is gone looks to
/// it like one that never was.
///
/// Give it to [`Invariants::with_witness`](super::Invariants::with_witness).
///
/// ```
/// use std::sync::Arc;
/// use decnet_lifecycle::testkit::{FakeEngine, Witness};
/// use decnet_lifecycle::{Runner, store::{MemoryStore, Store}};
///
/// let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
/// let witness = Witness::new(Arc::clone(&store));
/// let unrecovered = Runner::builder(store, witness.engine(Arc::new(FakeEngine::new()))).build()?;
/// assert!(witness.breaches().is_empty());
/// # Ok::<(), decnet_lifecycle::runner::BuildError>(())
/// ```
#[derive(Debug)]
pub struct Witness {
    store: Mutex<Arc<dyn Store>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    engine_calls: BTreeSet<LifecycleId>,
    evidence: BTreeSet<LifecycleId>,
    /// Good words of deltas that named no row.
    words: BTreeSet<(DeckyName, Operation, HostId)>,
    /// What each host showed to be up, the newest last.
    up: BTreeMap<HostId, Vec<BTreeSet<DeckyName>>>,
    breaches: Vec<String>,
}

impl Witness {
    /// A witness that compares with this store. The store must answer reads
    /// at once, as those of this crate do.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store: Mutex::new(store), seen: Mutex::default() })
    }

    /// From now on compares with this store: the same one, opened again.
    pub fn reopened(&self, store: Arc<dyn Store>) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = store;
    }

    /// The engine, seen.
    #[must_use]
    pub fn engine(self: &Arc<Self>, inner: Arc<dyn Engine>) -> Arc<dyn Engine> {
        Arc::new(SeenEngine { witness: Arc::clone(self), inner })
    }

    /// The agents, seen.
    #[must_use]
    pub fn agents(self: &Arc<Self>, inner: Arc<dyn Agents>) -> Arc<dyn Agents> {
        Arc::new(SeenAgents { witness: Arc::clone(self), inner })
    }

    /// The bus, seen.
    #[must_use]
    pub fn bus(self: &Arc<Self>, inner: Arc<dyn Bus>) -> Arc<dyn Bus> {
        Arc::new(SeenBus { witness: Arc::clone(self), inner })
    }

    /// Notes what a host's deltas are evidence for; call it before they are
    /// applied.
    pub fn heard(&self, host: &HostId, deltas: &[Delta]) {
        let mut seen = self.seen();
        for delta in deltas.iter().filter(|delta| delta.report == Reported::Succeeded) {
            match delta.lifecycle_id {
                Some(id) if self.host_of(id).as_ref() == Some(host) => {
                    seen.evidence.insert(id);
                }
                Some(_) => {}
                None => {
                    seen.words.insert((delta.decky.clone(), delta.operation, host.clone()));
                }
            }
        }
    }

    /// Notes what a host's beat is evidence for by what it shows to run; call it
    /// before the beat is taken.
    pub fn shown(&self, host: &HostId, status: &WorkerStatus) {
        let is_up = |decky: &&DeckyName| status.runtime.get(*decky).is_some_and(|runtime| runtime.running);
        let mut seen = self.seen();
        let up = status.runtime.keys().filter(is_up).cloned().collect();
        let shown = seen.up.entry(host.clone()).or_default();
        // A row may be looked at a few beats after the one that ended it.
        if shown.len() == SHOWN {
            shown.remove(0);
        }
        shown.push(up);
        for decky in status.deckies.keys().filter(is_up) {
            for operation in [Operation::Deploy, Operation::Mutate] {
                seen.words.insert((decky.clone(), operation, host.clone()));
            }
        }
    }

    /// What did not hold so far.
    #[must_use]
    pub fn breaches(&self) -> Vec<String> {
        self.seen().breaches.clone()
    }

    pub(super) fn has_evidence(&self, entry: &Entry) -> bool {
        let seen = self.seen();
        let word = |host: &HostId| (entry.decky.clone(), entry.operation, host.clone());
        seen.evidence.contains(&entry.id)
            || entry.host.as_ref().is_some_and(|host| seen.words.contains(&word(host)))
            || entry.operation == Operation::Teardown
                && entry
                    .host
                    .as_ref()
                    .and_then(|host| seen.up.get(host))
                    .is_some_and(|shown| shown.iter().any(|up| !up.contains(&entry.decky)))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row as it is durable; an error if the store can't say.
    fn row(&self, id: LifecycleId) -> Result<Option<Record>, StoreError> {
        let store = Arc::clone(&self.store.lock().unwrap_or_else(PoisonError::into_inner));
        let ids = [id];
        let late = || StoreError::Closed { why: "it does not answer at once".to_owned() };
        block_on(poll_once(store.read(&ids))).unwrap_or_else(|| Err(late())).map(|mut rows| rows.pop())
    }

    fn host_of(&self, id: LifecycleId) -> Option<HostId> {
        self.row(id).ok()??.host
    }

    fn wants_running(&self, who: &str, id: LifecycleId) {
        let Ok(row) = self.row(id) else { return };
        // Somebody may have ended it since; it was running before.
        let started = row.as_ref().is_some_and(|row| row.running_since().is_some());
        if !started {
            let status = row.map(|row| row.status());
            self.seen().breaches.push(format!("{who} was called for row {id}, durable is {status:?}"));
        }
    }

    fn engine_called(&self, work: &Work) {
        for task in work.deckies.values() {
            self.wants_running("the engine", task.id);
            let mut seen = self.seen();
            if !seen.engine_calls.insert(task.id) {
                seen.breaches.push(format!("the engine was called twice for row {}", task.id));
            }
        }
    }

    /// The same work, and hears what is told of a decky before the call's end.
    fn listening(self: &Arc<Self>, work: &Work) -> Work {
        let deckies = work.deckies.iter().map(|(decky, task)| (decky.clone(), task.id)).collect();
        let heard = Heard { witness: Arc::clone(self), inner: Arc::clone(&work.progress), deckies };
        Work { progress: Arc::new(heard), ..work.clone() }
    }

    fn engine_said(&self, work: &Work, report: &Result<Report, Failure>) {
        let Ok(report) = report else { return };
        let good = work.deckies.iter().filter(|(decky, _)| report.outcome(decky).is_ok());
        self.seen().evidence.extend(good.map(|(_, task)| task.id));
    }
}

/// Progress of a call, and what is told of its deckies before its end.
#[derive(Debug)]
struct Heard {
    witness: Arc<Witness>,
    inner: Arc<dyn Progress>,
    deckies: BTreeMap<DeckyName, LifecycleId>,
}

impl Progress for Heard {
    fn note(&self, decky: &DeckyName, text: &str) {
        self.inner.note(decky, text);
    }

    fn ended(&self, decky: &DeckyName, outcome: &Result<(), Failure>) {
        if let (Ok(()), Some(id)) = (outcome, self.deckies.get(decky)) {
            self.witness.seen().evidence.insert(*id);
        }
        self.inner.ended(decky, outcome);
    }
}

#[derive(Debug)]
struct SeenEngine {
    witness: Arc<Witness>,
    inner: Arc<dyn Engine>,
}

#[async_trait]
impl Engine for SeenEngine {
    fn turns(&self) -> Turns {
        self.inner.turns()
    }

    fn check(&self, fleet: &FleetConfig) -> Result<(), Problems> {
        self.inner.check(fleet)
    }

    fn secrets(&self, fleet: &FleetConfig) -> Secrets {
        self.inner.secrets(fleet)
    }

    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        self.inner.runtime(fleet).await
    }

    async fn found(&self) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        self.inner.found().await
    }

    async fn logs(&self, query: &LogQuery, hear: &(dyn Fn(LogLine) + Send + Sync)) -> Result<(), Failure> {
        self.inner.logs(query, hear).await
    }

    async fn changed(&self) {
        self.inner.changed().await;
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.witness.engine_called(work);
        let report = self.inner.deploy(&self.witness.listening(work)).await;
        self.witness.engine_said(work, &report);
        report
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.witness.engine_called(work);
        let report = self.inner.mutate(&self.witness.listening(work)).await;
        self.witness.engine_said(work, &report);
        report
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.witness.engine_called(work);
        let report = self.inner.teardown(&self.witness.listening(work)).await;
        self.witness.engine_said(work, &report);
        report
    }
}

#[derive(Debug)]
struct SeenAgents {
    witness: Arc<Witness>,
    inner: Arc<dyn Agents>,
}

#[async_trait]
impl Agents for SeenAgents {
    async fn deploy(&self, host: &Host, call: &DeployCall) -> Result<(), AgentError> {
        call.lifecycle_ids.values().for_each(|id| self.witness.wants_running("an agent", *id));
        self.inner.deploy(host, call).await
    }

    async fn mutate(&self, host: &Host, call: &MutateCall) -> Result<(), AgentError> {
        self.witness.wants_running("an agent", call.lifecycle_id);
        self.inner.mutate(host, call).await
    }

    async fn teardown(&self, host: &Host, call: &TeardownCall) -> Result<(), AgentError> {
        for id in call.lifecycle_ids.values() {
            self.witness.wants_running("an agent", *id);
        }
        let answer = self.inner.teardown(host, call).await;
        if answer.is_ok() {
            self.witness.seen().evidence.extend(call.lifecycle_ids.values().copied());
        }
        answer
    }
}

#[derive(Debug)]
struct SeenBus {
    witness: Arc<Witness>,
    inner: Arc<dyn Bus>,
}

impl Bus for SeenBus {
    fn publish(&self, event: &Event) {
        let durable = self.witness.row(event.lifecycle_id).map(|row| row.map(|row| row.status()));
        let reached = match (event.status, &durable) {
            (_, Err(_)) | (Status::Pending, Ok(Some(_))) => true,
            (_, Ok(None)) => false,
            (Status::Running, Ok(Some(status))) => *status != Status::Pending,
            (told, Ok(Some(status))) => told == *status,
        };
        if !reached {
            let (id, told) = (event.lifecycle_id, event.status);
            let what = format!("the bus said {told} of row {id}, durable is {durable:?}");
            self.witness.seen().breaches.push(what);
        }
        self.inner.publish(event);
    }

    fn publish_drift(&self, event: &DriftEvent) {
        self.inner.publish_drift(event);
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }
}
