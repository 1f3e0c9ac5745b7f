//! Which strategy is taken for what.

use std::sync::Arc;

use crate::lifecycle::Operation;

use super::{LocalDeploy, LocalMutate, LocalTeardown, Strategy, SwarmDeploy, SwarmMutate, SwarmTeardown};

/// Whose deckies a strategy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The master's own.
    Local,
    /// Those of worker hosts.
    Swarm,
}

/// When the rows of one engine call end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Ending {
    /// All in one commit, by the call's report.
    #[default]
    Together,
    /// Each as soon as the engine has told of its decky
    /// ([`Work::report`](crate::engine::Work::report)).
    AsReported,
}

/// A strategy for each operation and [`Place`]; the built-in ones unless told
/// otherwise.
///
/// See [`Strategy`] for one of one's own in use.
#[derive(Debug, Clone)]
pub struct Strategies {
    deploy: Both,
    mutate: Both,
    teardown: Both,
}

#[derive(Debug, Clone)]
struct Both {
    local: Arc<dyn Strategy>,
    swarm: Arc<dyn Strategy>,
}

impl Default for Strategies {
    fn default() -> Self {
        Self {
            deploy: Both::new(LocalDeploy::default(), SwarmDeploy),
            mutate: Both::new(LocalMutate, SwarmMutate),
            teardown: Both::new(LocalTeardown::default(), SwarmTeardown),
        }
    }
}

impl Strategies {
    /// The built-in ones, whose local deploys and teardowns end their rows so.
    /// A mutate puts the services of before back if it fails, and so ends in one
    /// commit always.
    #[must_use]
    pub fn ending(ending: Ending) -> Self {
        Self::default().with(Operation::Deploy, Place::Local, LocalDeploy { ending }).with(
            Operation::Teardown,
            Place::Local,
            LocalTeardown { ending },
        )
    }

    /// Takes this strategy from now on.
    #[must_use]
    pub fn with(mut self, operation: Operation, place: Place, strategy: impl Strategy) -> Self {
        let both = match operation {
            Operation::Deploy => &mut self.deploy,
            Operation::Mutate => &mut self.mutate,
            Operation::Teardown => &mut self.teardown,
        };
        *both.at_mut(place) = Arc::new(strategy);
        self
    }

    /// The strategy that is taken.
    #[must_use]
    pub fn get(&self, operation: Operation, place: Place) -> &dyn Strategy {
        let both = match operation {
            Operation::Deploy => &self.deploy,
            Operation::Mutate => &self.mutate,
            Operation::Teardown => &self.teardown,
        };
        match place {
            Place::Local => &*both.local,
            Place::Swarm => &*both.swarm,
        }
    }
}

impl Both {
    fn new(local: impl Strategy, swarm: impl Strategy) -> Self {
        Self { local: Arc::new(local), swarm: Arc::new(swarm) }
    }

    const fn at_mut(&mut self, place: Place) -> &mut Arc<dyn Strategy> {
        match place {
            Place::Local => &mut self.local,
            Place::Swarm => &mut self.swarm,
        }
    }
}
