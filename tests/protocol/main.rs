//! The protocol between a master and its workers, as a model all of whose
//! states are looked at: two rows of one decky on each host; calls, answers
//! and beats that are lost, doubled and late; both sides restarted at any
//! moment. With a rule taken away, the model finds what it is there for.
//!
//! The rules are those of `strategy/dispatch.rs`, `heartbeat.rs`,
//! `master/heard.rs`, `sweep.rs` and `worker/`; one that changes there changes
//! here too.

mod machine;

use machine::{Kind, Rule, Swarm};
use stateright::{Checker, Model};

/// Looks at every state; tells how many there are.
fn holds(swarm: &Swarm) {
    let checker = swarm.clone().checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{:?}, {} faults: {} states", swarm.hosts, swarm.faults, checker.unique_state_count());
}

/// Without the rule the property is broken. With it, the other tests say that
/// it isn't.
fn is_needed(rule: Rule, host: Kind, faults: u8, property: &'static str) {
    let swarm = Swarm { without: Some(rule), ..Swarm::of(&[host], faults) };
    let checker = swarm.checker().threads(2).spawn_bfs().join();
    assert!(checker.discovery(property).is_some(), "without {rule:?} nothing breaks that {property}");
}

#[test]
fn one_host_and_much_that_goes_wrong() {
    holds(&Swarm::of(&[Kind::Naming], 3));
    holds(&Swarm::of(&[Kind::Mute], 3));
}

#[test]
fn two_hosts_of_a_master_that_restarts() {
    for hosts in [[Kind::Naming, Kind::Mute], [Kind::Naming; 2], [Kind::Mute; 2]] {
        holds(&Swarm { patient: true, ..Swarm::of(&hosts, 1) });
    }
}

#[test]
fn where_nothing_goes_wrong_no_row_waits_for_its_deadline() {
    for kind in [Kind::Naming, Kind::Mute] {
        holds(&Swarm { patient: true, ..Swarm::of(&[kind], 0) });
    }
}

#[test]
fn each_rule_is_needed() {
    use Kind::{Mute, Naming};
    let done = "succeeded is only what was done";
    is_needed(Rule::OneOpenRow, Naming, 0, "a decky has one open row");
    is_needed(Rule::RunningFirst, Mute, 1, done);
    is_needed(Rule::SecondCallToNaming, Mute, 1, done);
    is_needed(Rule::IdsAreKept, Naming, 1, "a worker that names rows does each once");
    is_needed(Rule::EndedStays, Naming, 0, "an ended row stays as it ended");
    is_needed(Rule::EarlierMaySpeak, Mute, 0, done);
    is_needed(Rule::SameWordTwice, Mute, 1, done);
    is_needed(Rule::Grace, Naming, 1, "lost is only what its worker does not know");
}
