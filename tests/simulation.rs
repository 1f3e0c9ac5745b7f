//! Whole masters on virtual time: seeds replay, planted faults are found, and
//! some hundred schedules break nothing. `examples/simulate.rs` plays more.

use decnet_lifecycle::testkit::sim::{Honesty, Planted, Played, Weather, simulate};

#[test]
fn a_seed_replays_poll_by_poll() {
    let weather = Weather::default();
    let first = simulate(11, &weather).unwrap();
    assert_eq!(simulate(11, &weather).unwrap(), first);
    assert_ne!(simulate(12, &weather).unwrap().trace, first.trace);
    assert!(first.rows > 10 && first.succeeded > 0 && first.crashes > 0, "{first}");
    assert!(first.whole_checks > first.crashes && first.watched > 0, "{first:?}");
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
    // Of what is lost, the newest revision may be the first that is missed.
    found(Planted::UnknownLies, "the head went back");
}

#[test]
fn an_engine_that_boasts_is_found() {
    found(Planted::EngineBoasts, "says succeeded and has not");
}

#[test]
fn a_master_that_never_sweeps_is_found() {
    found(Planted::NoSweeps, "rows never end");
}

#[test]
fn an_engine_that_nobody_hears_is_found() {
    found(Planted::EngineUnheard, "what the engine said of row");
}

#[test]
fn a_watcher_that_misses_changes_is_found() {
    found(Planted::WatcherSkips, "a watcher");
}

#[test]
fn words_that_come_too_late_to_be_told_apart_are_found() {
    found(Planted::LateWords, "a stale word ended row");
}

#[test]
fn rows_that_wait_for_lost_words_are_found() {
    found(Planted::BlindBeats, "waited for a word that was lost");
}

/// Plays some schedules of a rougher weather; they break by what is known of it
/// alone. Gives what the others came to.
fn rough(change: impl Fn(&mut Weather), known: Option<&str>) -> Vec<Played> {
    let mut weather = Weather::default();
    change(&mut weather);
    let mut good = Vec::new();
    for seed in 1..=20 {
        match simulate(seed, &weather) {
            Ok(played) => good.push(played),
            Err(broken) => assert!(known.is_some_and(|known| broken.what.contains(known)), "{broken}"),
        }
    }
    assert!(!good.is_empty());
    good
}

#[test]
fn commits_are_unknown_while_reads_fail() {
    let played = rough(|weather| weather.blind_commits = true, None);
    assert!(played.iter().any(|played| played.blind_commits > 0));
}

#[test]
fn clocks_step_back_far() {
    let played = rough(|weather| weather.far_steps_back = true, None);
    assert!(played.iter().any(|played| played.steps_back > 0));
}

#[test]
fn stores_come_back_from_a_backup() {
    // A copy that has grown past where a watcher was looks like what it knew.
    let played = rough(|weather| weather.restores = true, Some("a watcher"));
    assert!(played.iter().any(|played| played.restores > 0));
}

/// No stale word ends a newer row, and none waits for a word that won't come.
#[test]
fn words_of_workers_that_name_no_rows_get_lost() {
    for lost in [50, 100] {
        let played = rough(|weather| weather.lost_words = lost, None);
        assert!(played.iter().any(|played| played.seen > 0), "{lost}");
    }
}

/// A row that was asked to stop, and failed while the clock was stepped back,
/// ended in the feed before it was asked.
#[test]
fn seed_128_which_broke_once_holds() {
    simulate(128, &Weather::default()).unwrap();
}

/// A word that an even earlier deploy of others had left was counted as that of
/// a row begun after it, and so a stale word ended the next row.
#[test]
fn seeds_whose_stale_words_ended_rows_hold() {
    for seed in [37, 269, 663, 667, 1269] {
        simulate(seed, &Weather::default()).unwrap();
    }
}
