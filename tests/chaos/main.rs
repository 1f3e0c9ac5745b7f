//! A swarm of processes on loopback, killed at random moments, over a wire
//! that loses and doubles beats: at the end each row has ended, and as it says.
//!
//! `DECNET_LIFECYCLE_ROUNDS` says how many rounds (5), `DECNET_LIFECYCLE_SEED`
//! where their dice start. A seed gives the same dice, not the same schedule.

#[path = "../processes/mod.rs"]
mod processes;
mod proxy;
mod swarm;

use std::time::Duration;

use swarm::Swarm;

fn main() {
    let set = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = set("DECNET_LIFECYCLE_ROUNDS").unwrap_or(5);
    let first = set("DECNET_LIFECYCLE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    println!("running 1 test, {rounds} rounds from seed {first}");
    let mut swarm = Swarm::start(first);
    for seed in first..first + rounds {
        let told = round(&mut swarm, seed);
        println!("round with seed {seed}: {told}");
    }
    let told = swarm.check_all();
    swarm.end();
    println!("test a_swarm_that_is_killed_and_cut_off_ends_each_row_as_it_says ... ok");
    println!("{told}");
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// Asks for some work, kills while it is done, and looks at what became of it.
fn round(swarm: &mut Swarm, seed: u64) -> String {
    let mut dice = fastrand::Rng::with_seed(seed);
    swarm.let_wild(true);
    for _ in 0..dice.usize(1..3) {
        swarm.ask(&mut dice);
        for _ in 0..dice.usize(..3) {
            // The moment is what is random here: within a dispatch, or later.
            let most = *dice.choice(&[15_000, 200_000]).unwrap();
            std::thread::sleep(Duration::from_micros(dice.u64(..most)));
            swarm.kill_one(&mut dice);
        }
    }
    // The wire is mended and all processes run: now each row has to end.
    swarm.let_wild(false);
    swarm.start_all();
    swarm.wait_until_all_have_ended(seed);
    swarm.check_truth(seed)
}
