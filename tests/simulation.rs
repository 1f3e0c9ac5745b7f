//! Whole masters on virtual time: seeds replay, planted faults are found, and
//! some hundred schedules break nothing. `examples/simulate.rs` plays more.

use decnet_lifecycle::testkit::sim::{Honesty, Planted, Weather, simulate};

#[test]
fn a_seed_replays_poll_by_poll() {
    let weather = Weather::default();
    let first = simulate(11, &weather).unwrap();
    assert_eq!(simulate(11, &weather).unwrap(), first);
    assert_ne!(simulate(12, &weather).unwrap().trace, first.trace);
    assert!(first.rows > 10 && first.succeeded > 0 && first.crashes > 0, "{first}");
}

#[test]
fn nothing_breaks() {
    for seed in 1..=30 {
        simulate(seed, &Weather::default()).unwrap();
    }
}

#[test]
fn a_lying_disk_costs_rows_but_no_panic_and_no_nonsense() {
    let mut weather = Weather::default();
    weather.disk = Honesty::Lies;
    for seed in 1..=10 {
        simulate(seed, &weather).unwrap();
    }
}

/// What the first schedules that find a planted fault say of it.
fn found(planted: Planted, says: &str) {
    let mut weather = Weather::default();
    weather.planted = Some(planted);
    let broken: Vec<String> =
        (1..=40).filter_map(|seed| simulate(seed, &weather).err()).map(|broken| broken.what).collect();
    assert!(broken.iter().any(|what| what.contains(says)), "{planted:?}: {broken:?}");
}

#[test]
fn a_disk_that_lies_unannounced_is_found() {
    found(Planted::UnknownLies, "was acknowledged and is lost");
}

#[test]
fn an_engine_that_boasts_is_found() {
    found(Planted::EngineBoasts, "says succeeded and has not");
}

#[test]
fn a_master_that_never_sweeps_is_found() {
    found(Planted::NoSweeps, "rows never end");
}
