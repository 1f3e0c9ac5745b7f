//! What services have said, as a master shows it: words of others are data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use decnet_lifecycle::engine::{Engine, LogLine, LogQuery, Report, Work};
use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::*;
use futures_lite::future::block_on;

use crate::world::{World, fleet, name, services};

/// An engine whose services say this, once each.
#[derive(Debug)]
struct Talks(FakeEngine, Vec<String>);

#[async_trait]
impl Engine for Talks {
    async fn logs(&self, query: &LogQuery, hear: &(dyn Fn(LogLine) + Send + Sync)) -> Result<(), Failure> {
        for text in &self.1 {
            hear(LogLine::new(query.decky.clone(), query.service.clone(), text.clone()));
        }
        Err(Failure::new(FailureKind::Engine, "toor-2026 was heard last"))
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.0.deploy(work).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.0.mutate(work).await
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.0.teardown(work).await
    }
}

#[test]
fn words_of_services_are_one_line_each_bounded_and_without_known_secrets() {
    let world = World::new();
    let said = vec![
        "root:toor-2026\u{1b}[2J\nSep 1 sshd: forged".to_owned(),
        "visitor typed password=guess".to_owned(),
        "x".repeat(LogQuery::MAX_LINE * 2),
    ];
    let engine = Arc::new(Talks(FakeEngine::new(), said));
    let build =
        || Runner::builder(world.store.clone(), engine.clone()).clock(world.clock.clone()).build().unwrap();
    let mut placed = fleet(&["", "w1"]);
    let settings = serde_json::json!({"root_password": "toor-2026"});
    placed.deckies[0].service_config =
        BTreeMap::from([("ssh".to_owned(), settings.as_object().unwrap().clone())]);
    world.deployed(placed);

    // A master that has done nothing yet knows what is placed, too.
    let runner = build();
    let heard = Mutex::new(Vec::new());
    let hear = |line: LogLine| heard.lock().unwrap().push(line.text);
    let query = LogQuery::new(name("a"), world.clock.clone()).service(services(&["ssh"]).pop());
    let failure = block_on(runner.logs(&query, &hear)).unwrap_err();
    assert_eq!(failure.message(), "[scrubbed] was heard last");
    let heard = heard.lock().unwrap();
    assert_eq!(heard[0], "root:[scrubbed][2J\\nSep 1 sshd: forged");
    assert_eq!(heard[1], "visitor typed password=guess", "what visitors type is what logs are for");
    assert_eq!(heard[2].chars().count(), LogQuery::MAX_LINE);
    let query = LogQuery::new(name("b"), world.clock.clone());
    let failure = block_on(runner.logs(&query, &|_| {})).unwrap_err();
    assert_eq!(failure.message(), "b is on the worker host w1; its logs are there");
}
