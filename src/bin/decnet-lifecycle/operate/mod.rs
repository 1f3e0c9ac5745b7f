//! Commands that change deckies: deploy, mutate, undo, retry, teardown.

use std::collections::BTreeSet;
use std::sync::Arc;

use decnet_lifecycle::{
    AcceptError, Accepted, DeckyName, DeployRequest, FleetConfig, MutateRequest, Overlap, Runner,
    ServiceName, TeardownRequest, lifecycle::EngineName, store::Store,
};
use serde_json::{Value, json};

use crate::args::Terms;
use crate::client::{RunningMaster, ids};
use crate::engines::Chosen;
use crate::home::{Home, Make};
use crate::live::Live;
use crate::output::Output;
use crate::{Complaint, Done};

mod deploy;
mod drive;
mod mutate;
mod retry;
mod teardown;
mod up;

pub use deploy::{deploy, deploy_query, deploy_request, for_its_engine, for_this_machine};
pub use mutate::{mutate, undo};
pub use retry::retry;
pub use teardown::teardown;
pub use up::up;

/// One request, whichever master it goes to.
enum Ask {
    /// Bring these up; one that is elsewhere is taken down there first.
    Deploy(Box<FleetConfig>),
    Mutate {
        decky: DeckyName,
        services: Vec<ServiceName>,
    },
    /// Take these down; all if there are none.
    Teardown(BTreeSet<DeckyName>),
}

/// What a command comes to, once it has looked at the store.
#[derive(Default)]
struct Asked {
    asks: Vec<Ask>,
    /// What can't be asked, and keeps nothing else back.
    refused: Vec<Complaint>,
    /// The engine that this is for, if nothing is placed that says which.
    engine: Option<EngineName>,
}

impl Asked {
    fn of(asks: Vec<Ask>) -> Self {
        Self { asks, ..Self::default() }
    }
}

/// Asks the running master, or is one for as long as this takes.
async fn carry_out(
    home: &Home,
    out: &Output,
    terms: &Terms,
    asked: impl AsyncFnOnce(&dyn Store) -> Result<Asked, Complaint>,
) -> Result<Done, Complaint> {
    if let Some(running) = RunningMaster::find(home)? {
        let asked = one_key(terms, asked(&*home.reader().await?).await?)?;
        let (mut rows, mut refused) = (Vec::new(), asked.refused);
        for ask in &asked.asks {
            match ask.post(&running, terms).await {
                Ok(answer) => rows.extend(ids(&answer)?),
                Err(complaint) => refused.push(complaint),
            }
        }
        return drive::follow(home, out, &rows, &refused).await;
    }
    let store = home.writer(Make::IfMissing, terms.wait.into()).await?;
    let asked = one_key(terms, asked(&*store).await?)?;
    for ask in &asked.asks {
        if let Ask::Deploy(fleet) = ask {
            deploy::is_for_no_host(fleet)?;
        }
    }
    let chosen = Chosen::for_placed_or(home, &*store, asked.engine.as_ref()).await?;
    let live = Arc::new(Live::new(*out));
    let (runner, recovered) = drive::master(home, &live, store.clone(), &chosen).await?;
    let mut accepted = Vec::with_capacity(asked.asks.len());
    for ask in asked.asks {
        accepted.push(ask.accept(&runner, terms).await);
    }
    let work = drive::Work { again: recovered, asked: accepted, refused: asked.refused };
    drive::drive(home, &live, &chosen, &runner, &*store, work).await
}

/// One key names one request.
fn one_key(terms: &Terms, asked: Asked) -> Result<Asked, Complaint> {
    match asked.asks.len() {
        2.. if terms.key.is_some() => Err(Complaint(format!(
            "a key names one request, and this is {} of them; ask for one decky at a time",
            asked.asks.len()
        ))),
        _ => Ok(asked),
    }
}

impl Ask {
    async fn post(&self, master: &RunningMaster, terms: &Terms) -> Result<Value, Complaint> {
        let mut query = query(terms);
        let (path, body) = match self {
            Self::Deploy(fleet) => {
                query.append_pair("move", "true");
                ("/deckies/deploy".to_owned(), fleet.to_json())
            }
            Self::Mutate { decky, services } => {
                (format!("/deckies/{decky}/mutate"), json!({"services": services}).to_string())
            }
            Self::Teardown(deckies) => {
                for decky in deckies {
                    query.append_pair("only", decky.as_str());
                }
                ("/deckies/teardown".to_owned(), String::new())
            }
        };
        master.post(&format!("{path}?{}", query.finish()), terms.key.as_ref(), body).await
    }

    async fn accept(self, runner: &Runner, terms: &Terms) -> Result<Accepted, AcceptError> {
        let (overlap, key) = (overlap(terms), terms.key.clone());
        match self {
            Self::Deploy(fleet) => {
                let request = DeployRequest::new(*fleet).overlap(overlap).relocate(true);
                let request = key.into_iter().fold(request, DeployRequest::key);
                runner.accept_deploy(request).await
            }
            Self::Mutate { decky, services } => {
                let request = MutateRequest::new(decky, services).overlap(overlap);
                runner.accept_mutate(key.into_iter().fold(request, MutateRequest::key)).await
            }
            Self::Teardown(deckies) => {
                let request = match deckies.is_empty() {
                    true => TeardownRequest::all(),
                    false => TeardownRequest::new(deckies),
                };
                let request = request.overlap(overlap);
                runner.accept_teardown(key.into_iter().fold(request, TeardownRequest::key)).await
            }
        }
    }
}

fn query(terms: &Terms) -> form_urlencoded::Serializer<'static, String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if terms.supersede {
        query.append_pair("supersede", "true");
    }
    query
}

const fn overlap(terms: &Terms) -> Overlap {
    if terms.supersede { Overlap::Supersede } else { Overlap::Reject }
}
