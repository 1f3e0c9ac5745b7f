//! Fake agents that answer as they are told, and remember what they were asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::agent::{AgentError, Agents, DeployCall, Host, MutateCall, TeardownCall};
use crate::lifecycle::HostId;

/// What a host's fake agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AgentScript {
    /// It takes the call.
    #[default]
    Accept,
    /// It answers with this error.
    Fail(AgentError),
    /// It never answers.
    Hang,
    /// The client panics.
    Panic,
}

/// One call that a fake agent got.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AgentCall {
    /// A shard of a fleet.
    Deploy(HostId, DeployCall),
    /// New services.
    Mutate(HostId, MutateCall),
    /// A decky to take down.
    Teardown(HostId, TeardownCall),
}

/// Agents that do as they are told, and remember what they were asked.
#[derive(Debug, Default)]
pub struct FakeAgents {
    scripts: Mutex<BTreeMap<HostId, VecDeque<AgentScript>>>,
    calls: Mutex<Vec<AgentCall>>,
}

impl FakeAgents {
    /// Agents that take every call.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The host's next answers, one a call; after them it takes every call.
    pub fn script(&self, host: &HostId, answers: impl IntoIterator<Item = AgentScript>) {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        scripts.entry(host.clone()).or_default().extend(answers);
    }

    /// The calls so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<AgentCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(&self, host: &HostId, call: AgentCall) -> Result<(), AgentError> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        let script = {
            let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
            scripts.get_mut(host).and_then(VecDeque::pop_front).unwrap_or_default()
        };
        match script {
            AgentScript::Accept => Ok(()),
            AgentScript::Fail(error) => Err(error),
            AgentScript::Hang => std::future::pending().await,
            AgentScript::Panic => std::panic::resume_unwind(Box::new("scripted panic")),
        }
    }
}

#[async_trait]
impl Agents for FakeAgents {
    async fn deploy(&self, host: &Host, call: &DeployCall) -> Result<(), AgentError> {
        self.answer(&host.id, AgentCall::Deploy(host.id.clone(), call.clone())).await
    }

    async fn mutate(&self, host: &Host, call: &MutateCall) -> Result<(), AgentError> {
        self.answer(&host.id, AgentCall::Mutate(host.id.clone(), call.clone())).await
    }

    async fn teardown(&self, host: &Host, call: &TeardownCall) -> Result<(), AgentError> {
        self.answer(&host.id, AgentCall::Teardown(host.id.clone(), call.clone())).await
    }
}
