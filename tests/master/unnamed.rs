//! Workers that name no rows: what ends their rows when a word is lost, and
//! what does not.

use std::time::Duration;

use decnet_lifecycle::testkit::AgentScript;
use decnet_lifecycle::{agent::AgentError, beat::Beat, clock::Clock as _, *};
use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::world::{World, fleet, host, name};

const AS_ASKED: &[&str] = &["ssh", "http"];

/// A worker of DECNET's: what it keeps of decky `a`, and what runs of it.
struct Agent<'w> {
    world: &'w World,
    keeps: &'static [&'static str],
    runs: &'static [&'static str],
}

impl<'w> Agent<'w> {
    fn new(world: &'w World) -> Self {
        Self { world, keeps: &[], runs: &[] }
    }

    fn shows(&mut self, services: &'static [&'static str]) -> &mut Self {
        (self.keeps, self.runs) = (services, services);
        self
    }

    /// A beat with these words, each `(operation, status, seconds since now)`.
    fn says(&self, words: &[(&str, &str, i64)]) {
        let at = |seconds: i64| {
            Timestamp::from_micros(self.world.clock.now().as_micros() + seconds * 1_000_000).to_string()
        };
        let word = |(operation, status, seconds): &(&str, &str, i64)| {
            json!({"decky_name": "a", "operation": operation, "status": status, "error": "exit 1",
                   "completed_at": at(*seconds)})
        };
        let words: Vec<Value> = words.iter().map(word).collect();
        self.beat(&json!(words));
    }

    fn beat(&self, words: &Value) {
        let states: serde_json::Map<String, Value> =
            self.runs.iter().map(|service| ((*service).to_owned(), json!("running"))).collect();
        let status = match self.keeps {
            [] => json!({"deployed": false, "deckies": []}),
            keeps => {
                json!({"deployed": true, "deckies": [{"name": "a", "ip": "192.0.2.10", "services": keeps}],
                            "runtime": {"a": {"running": !self.runs.is_empty(), "services": states}}})
            }
        };
        let beat = json!({"host_uuid": "w1", "status": status, "lifecycle": words});
        let beat = Beat::from_json(beat.to_string().as_bytes()).unwrap();
        block_on(self.world.runner.take_beat(&host("w1"), &beat)).unwrap();
    }

    /// Beats every half minute for so long.
    fn beats(&self, seconds: u64) {
        for _ in 0..seconds / 30 {
            self.world.clock.advance(Duration::from_secs(30));
            self.beat(&json!([]));
            block_on(self.world.runner.sweep()).unwrap();
        }
    }
}

/// A deploy whose answer got lost, so that its word may come at any time.
fn unheard_deploy(world: &World) -> LifecycleId {
    world.agents.script(&host("w1"), [AgentScript::Fail(AgentError::Unconfirmed { reason: "reset".into() })]);
    let id = world.deployed(fleet(&["w1"]))[0];
    assert!(world.told(&[id])[0].starts_with("Dispatch"), "{:?}", world.told(&[id]));
    id
}

#[test]
fn a_deploy_whose_word_was_lost_ends_by_what_beats_show() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    agent.says(&[]);
    let ids = world.deployed(fleet(&["w1"]));
    agent.beats(60);
    agent.shows(AS_ASKED).beats(90);
    assert_eq!(world.told(&ids), ["running"]);
    agent.beats(30);
    assert_eq!(world.told(&ids), ["succeeded"]);
    assert_eq!(world.up_with("a").len(), 2);
}

/// What beats showed before the call as well may be what was before.
#[test]
fn what_was_never_seen_otherwise_must_be_seen_for_longer() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    agent.shows(AS_ASKED).says(&[]);
    let ids = world.deployed(fleet(&["w1"]));
    agent.beats(300);
    assert_eq!(world.told(&ids), ["running"]);
    agent.beats(30);
    assert_eq!(world.told(&ids), ["succeeded"]);
}

#[test]
fn what_is_not_steady_or_not_exactly_as_asked_ends_nothing() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    let ids = world.deployed(fleet(&["w1"]));
    for _ in 0..4 {
        agent.shows(AS_ASKED).beats(90);
        agent.shows(&["ssh"]).beats(30);
    }
    // Kept so, and not running so; running so, and not kept so; one too many.
    (agent.keeps, agent.runs) = (AS_ASKED, &["ssh"]);
    agent.beats(120);
    (agent.keeps, agent.runs) = (&["ssh"], AS_ASKED);
    agent.beats(120);
    agent.shows(&["ssh", "http", "ftp"]).beats(120);
    assert_eq!(world.told(&ids), ["running"]);
    // Rarely seen is not steadily seen.
    agent.shows(AS_ASKED);
    world.clock.advance(Duration::from_secs(30));
    agent.says(&[]);
    world.clock.advance(Duration::from_secs(200));
    agent.says(&[]);
    assert_eq!(world.told(&ids), ["running"]);
}

/// A mutate that failed shows the services from before: only the deadline can
/// say that its word won't come, and the text has what the beats said.
#[test]
fn what_is_seen_otherwise_to_the_end_fails_at_the_deadline_and_says_what_was_seen() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    let ids = world.deployed(fleet(&["w1"]));
    agent.shows(&["ssh"]).beats(32 * 60);
    let told = world.told(&ids).remove(0);
    assert!(
        told.starts_with("Deadline: ") && told.ends_with("says of the decky: up (ssh running)"),
        "{told}"
    );
}

/// D5 a: after a lost word the next attempts are not locked out.
#[test]
fn after_a_lost_word_the_next_one_counts_once_it_can_only_be_its_own() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    agent.says(&[]);
    world.deployed(fleet(&["w1"]));
    agent.beats(30);
    agent.shows(AS_ASKED).beats(120);
    // The word of the first is lost for good: the second's own ends it at once.
    let second = world.deployed(fleet(&["w1"]));
    agent.says(&[("deploy", "failed", 0)]);
    assert_eq!(world.told(&second), ["Reported: exit 1"]);
}

/// D5 c: a word that may be the superseded call's is kept, told, and not taken;
/// what beats show ends the row.
#[test]
fn a_word_that_may_be_an_earlier_call_s_is_told_and_beats_end_the_row() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    agent.says(&[]);
    unheard_deploy(&world);
    let second = world.deployed(fleet(&["w1"]));
    agent.shows(AS_ASKED).says(&[("deploy", "succeeded", 0)]);
    assert_eq!(world.told(&second), ["running"]);
    let why = block_on(world.runner.explain(second[0])).unwrap().unwrap().to_string();
    assert!(
        why.contains("its worker said \"succeeded\", which was not taken: it may be of an earlier call"),
        "{why}"
    );
    agent.beats(90);
    assert_eq!(world.told(&second), ["succeeded"]);
    // An undated one says no more.
    let third = world.deployed(fleet(&["w1"]));
    agent.beat(&json!([{"decky_name": "a", "operation": "deploy", "status": "succeeded"}]));
    let why = block_on(world.runner.explain(third[0])).unwrap().unwrap().to_string();
    assert!(why.contains("it is not dated"), "{why}");
}

/// As many words as there are calls: one of them is the row's own.
#[test]
fn when_all_calls_have_had_their_say_the_words_count() {
    // Both since the dispatch, and they agree.
    let world = World::new();
    let agent = Agent::new(&world);
    unheard_deploy(&world);
    let second = world.deployed(fleet(&["w1"]));
    agent.says(&[("deploy", "failed", 1)]);
    // The same one again is not another.
    agent.says(&[("deploy", "failed", 1)]);
    assert_eq!(world.told(&second), ["running"]);
    agent.says(&[("deploy", "failed", 2)]);
    assert_eq!(world.told(&second), ["Reported: exit 1"]);
    // They don't agree.
    let world = World::new();
    let agent = Agent::new(&world);
    unheard_deploy(&world);
    let second = world.deployed(fleet(&["w1"]));
    agent.says(&[("deploy", "failed", 1), ("deploy", "succeeded", 2)]);
    assert_eq!(world.told(&second), ["running"]);
    // The earlier call's came before this one was dispatched.
    let world = World::new();
    let agent = Agent::new(&world);
    unheard_deploy(&world);
    agent.says(&[("deploy", "succeeded", 1)]);
    let second = world.deployed(fleet(&["w1"]));
    agent.says(&[("deploy", "succeeded", 1)]);
    assert_eq!(world.told(&second), ["running"]);
    agent.says(&[("deploy", "failed", 2)]);
    assert_eq!(world.told(&second), ["Reported: exit 1"]);
    assert!(world.row(second[0]).claimed_completion.is_some());
}

/// A good word whose beat shows what only this row wanted.
#[test]
fn a_word_counts_when_its_beat_shows_what_no_earlier_call_wanted() {
    for (runs, told) in [(&["ftp"][..], "succeeded"), (&["smtp"][..], "running")] {
        let world = World::new();
        let mut agent = Agent::new(&world);
        let first = world.deployed(fleet(&["w1"]));
        agent.shows(AS_ASKED).says(&[("deploy", "succeeded", 0)]);
        assert_eq!(world.told(&first), ["succeeded"]);
        // Given up while the worker is at it.
        let smtp = world.mutated("a", &["smtp"]);
        agent.says(&[]);
        assert_eq!(block_on(world.runner.cancel(smtp)).unwrap(), Cancelled::Ended);
        let ftp = world.mutated("a", &["ftp"]);
        agent.shows(runs).says(&[("mutate", "succeeded", 0)]);
        assert_eq!(world.told(&[ftp]), [told], "{runs:?}");
    }
}

/// One word of a call says that the call is over, also for the others' rows.
#[test]
fn the_word_for_one_decky_ends_the_others_of_its_call() {
    for (status, told) in [("failed", "Reported: no such image"), ("succeeded", "succeeded")] {
        let world = World::new();
        let ids = world.deployed(fleet(&["w1", "w1"]));
        let beat = |words: Value| {
            let beat = json!({"host_uuid": "w1", "lifecycle": words});
            let beat = Beat::from_json(beat.to_string().as_bytes()).unwrap();
            block_on(world.runner.take_beat(&host("w1"), &beat)).unwrap();
        };
        beat(json!([{"decky_name": "b", "operation": "deploy", "status": status, "error": "no such image",
                     "completed_at": world.clock.now().to_string()}]));
        assert_eq!(world.told(&ids), ["running", told]);
        world.clock.advance(Duration::from_secs(89));
        beat(json!([]));
        assert_eq!(world.told(&ids), ["running", told]);
        world.clock.advance(Duration::from_secs(1));
        beat(json!([]));
        assert_eq!(world.told(&ids), [told, told]);
    }
}

#[test]
fn a_decky_that_its_call_left_out_fails_before_its_deadline() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    let ids = world.deployed(fleet(&["w1", "w1"]));
    agent.shows(&["ssh"]);
    agent.beat(&json!([{"decky_name": "b", "operation": "deploy", "status": "succeeded",
                        "completed_at": world.clock.now().to_string()}]));
    agent.beats(270);
    assert_eq!(world.told(&ids), ["running", "succeeded"]);
    agent.beats(60);
    assert!(
        world.told(&ids)[0].starts_with("Reported: host w1 said that the call went well"),
        "{:?}",
        world.told(&ids)
    );
}

#[test]
fn a_row_that_nobody_can_stop_is_given_up_and_says_so() {
    let world = World::new();
    let agent = Agent::new(&world);
    agent.says(&[]);
    let ids = world.deployed(fleet(&["w1"]));
    assert_eq!(block_on(world.runner.cancel(ids[0])).unwrap(), Cancelled::Ended);
    assert!(
        world.told(&ids)[0].starts_with("Cancelled: given up, and not stopped"),
        "{:?}",
        world.told(&ids)
    );
    assert!(world.is_unsure("a"));
    // A master that has not heard the worker yet waits for its next beat.
    let ids = world.deployed(fleet(&["w1"]));
    let restarted = world.restarted();
    assert_eq!(block_on(restarted.runner.cancel(ids[0])).unwrap(), Cancelled::Requested);
    assert_eq!(world.told(&ids), ["running"]);
    Agent::new(&restarted).says(&[]);
    assert!(world.told(&ids)[0].starts_with("Cancelled: "), "{:?}", world.told(&ids));
}

/// A worker that names rows is asked, and what its beats show ends nothing.
#[test]
fn a_worker_that_names_rows_is_not_judged_by_what_it_shows() {
    let world = World::new();
    let mut agent = Agent::new(&world);
    agent.shows(AS_ASKED);
    world.hears_an_id_from("w1");
    let ids = world.deployed(fleet(&["w1"]));
    for _ in 0..30 {
        world.clock.advance(Duration::from_secs(30));
        let beat = json!({"host_uuid": "w1", "open_rows": ids, "status": {"deployed": true,
            "deckies": [{"name": "a", "services": AS_ASKED}],
            "runtime": {"a": {"running": true, "services": {"ssh": "running", "http": "running"}}}}});
        let beat = Beat::from_json(beat.to_string().as_bytes()).unwrap();
        block_on(world.runner.take_beat(&host("w1"), &beat)).unwrap();
    }
    assert_eq!(world.told(&ids), ["running"]);
    assert_eq!(block_on(world.runner.cancel(ids[0])).unwrap(), Cancelled::Requested);
    assert_eq!(world.row(ids[0]).decky, name("a"));
}

/// A deploy has words for all that its host has, also for those that it was not
/// asked for.
#[test]
fn the_word_of_an_earlier_deploy_of_another_decky_is_not_taken_for_this_one_s() {
    let world = World::new();
    let words = |deckies: &[&str], seconds: u64| {
        let at = world.clock.now().plus(Duration::from_secs(seconds)).to_string();
        let word = |decky: &&str| json!({"decky_name": decky, "operation": "deploy", "status": "succeeded", "completed_at": at});
        let words: Vec<Value> = deckies.iter().map(word).collect();
        let beat = json!({"host_uuid": "w1", "lifecycle": words});
        let beat = Beat::from_json(beat.to_string().as_bytes()).unwrap();
        block_on(world.runner.take_beat(&host("w1"), &beat)).unwrap();
    };
    let redeployed = |decky: &str| {
        let request = DeployRequest::new(fleet(&["w1", "w1"])).only([name(decky)]);
        let accepted = block_on(world.runner.accept_deploy(request)).unwrap();
        let id = accepted.ids()[&name(decky)];
        world.drive(accepted.run());
        world.clock.advance(Duration::from_secs(1));
        id
    };
    let ids = world.deployed(fleet(&["w1", "w1"]));
    words(&["a", "b"], 0);
    assert_eq!(world.told(&ids), ["succeeded"; 2]);
    world.clock.advance(Duration::from_secs(200));
    let (b, a) = (redeployed("b"), redeployed("a"));
    words(&["a", "b"], 0);
    assert_eq!(world.told(&[a, b]), ["running", "succeeded"]);
    // Its own is the second.
    words(&["a", "b"], 1);
    assert_eq!(world.told(&[a, b]), ["succeeded"; 2]);
    // Long after a call had its say none of its words is on its way.
    world.clock.advance(Duration::from_secs(90));
    let a = redeployed("a");
    words(&["a", "b"], 0);
    assert_eq!(world.told(&[a]), ["succeeded"]);
}
