//! The master's own deckies: the engine, and whose turn with it it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_lock::{Mutex as AsyncMutex, MutexGuardArc};

use crate::engine::{Engine, Progress, Turns};
use crate::lifecycle::DeckyName;

/// What is needed for the deckies that run here.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) progress: Arc<dyn Progress>,
    whole: Arc<AsyncMutex<()>>,
    deckies: Mutex<BTreeMap<DeckyName, Arc<AsyncMutex<()>>>>,
}

/// The right to call the engine about some deckies, held until their rows have
/// ended: only then do their placements say what the next call builds on.
#[derive(Debug)]
pub(crate) struct Turn {
    _gates: Vec<MutexGuardArc<()>>,
}

impl Local {
    pub(crate) fn new(engine: Arc<dyn Engine>, progress: Arc<dyn Progress>) -> Self {
        Self { engine, progress, whole: Arc::default(), deckies: Mutex::default() }
    }

    /// Waits until no other call is in this one's way, as the engine asks for.
    /// The deckies come in their order, so that no two calls wait for each
    /// other.
    pub(crate) async fn turn<'a>(&self, deckies: impl Iterator<Item = &'a DeckyName>) -> Turn {
        let gates = match self.engine.turns() {
            Turns::OneCall => vec![Arc::clone(&self.whole)],
            Turns::OneCallPerDecky => self.gates(deckies),
        };
        let mut held = Vec::with_capacity(gates.len());
        for gate in gates {
            held.push(gate.lock_arc().await);
        }
        Turn { _gates: held }
    }

    fn gates<'a>(&self, deckies: impl Iterator<Item = &'a DeckyName>) -> Vec<Arc<AsyncMutex<()>>> {
        let mut gates = self.deckies.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        deckies.map(|decky| Arc::clone(gates.entry(decky.clone()).or_default())).collect()
    }
}
