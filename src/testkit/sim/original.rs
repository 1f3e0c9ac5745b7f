//! How a simulated worker of the original's does a call: a deploy replaces all
//! that it has, and each word is posted once.

use std::sync::Arc;
use std::time::Duration;

use crate::beat::Reported;
use crate::clock::Clock;
use crate::lifecycle::{LifecycleId, Operation};

use super::Planted;
use super::network::{Call, Network};
use super::worker::{LONGEST_UNNAMED, Worker};

/// How long a call may lie before it is begun.
const QUEUED: Duration = Duration::from_secs(60);

impl Network {
    /// Takes a call, however often it was made before.
    pub(super) fn original(self: &Arc<Self>, worker: &Arc<Worker>, call: Call) {
        let came = self.clock.monotonic();
        call.rows.values().for_each(|id| worker.shown().came(*id, came));
        if call.operation == Operation::Teardown {
            // Answered when it is done, and said no word of.
            for decky in call.rows.keys() {
                let mut shown = worker.shown();
                shown.forget(decky);
                shown.run(decky, Vec::new(), came);
            }
            return;
        }
        let (queued, good) = (self.dice.up_to(QUEUED), self.dice.percent(75));
        let takes = self.dice.up_to(LONGEST_UNNAMED);
        let (net, worker) = (Arc::clone(self), Arc::clone(worker));
        self.executor.spawn(worker.group, async move {
            if net.planted == Some(Planted::LateWords) {
                for decky in call.rows.keys() {
                    let (of, before) = (LifecycleId::from_u128(1), came.saturating_sub(QUEUED));
                    let (decky, good, now) = (decky.clone(), Reported::Succeeded, net.clock.now());
                    let word = worker.ended(of, decky, call.operation, good, now, before);
                    net.post(&worker, vec![word]).await;
                }
            }
            net.clock.sleep(queued).await;
            if call.operation == Operation::Deploy {
                let mut shown = worker.shown();
                let at = net.clock.monotonic();
                for decky in shown.deckies() {
                    shown.run(&decky, Vec::new(), at);
                    shown.forget(&decky);
                }
                call.up.iter().for_each(|(decky, services)| shown.keep(decky, services.clone()));
            }
            net.clock.sleep(takes).await;
            let report = net.came_to(&worker, &call, good);
            let now = net.clock.now();
            // Also for those that no row is of.
            let row = |decky| call.rows.get(decky).copied().unwrap_or(LifecycleId::from_u128(0));
            let words: Vec<_> = call
                .up
                .keys()
                .map(|decky| {
                    worker.ended(row(decky), decky.clone(), call.operation, report.clone(), now, came)
                })
                .collect();
            for word in words {
                if !net.dice.percent(net.lost_words) {
                    net.post(&worker, vec![word]).await;
                }
            }
        });
    }

    fn came_to(&self, worker: &Worker, call: &Call, good: bool) -> Reported {
        let mut shown = worker.shown();
        let at = self.clock.monotonic();
        let kept = shown.deckies();
        if call.operation == Operation::Mutate && !call.up.keys().all(|decky| kept.contains(decky)) {
            return Reported::Failed("not found in worker state".to_owned());
        }
        if !good {
            return Reported::Failed("exit 1".to_owned());
        }
        for (decky, services) in &call.up {
            shown.keep(decky, services.clone());
            shown.run(decky, services.clone(), at);
        }
        Reported::Succeeded
    }
}
