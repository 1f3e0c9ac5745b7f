//! Plays simulated schedules: `simulate [COUNT] [FIRST_SEED]`. Prints each seed
//! that broke something, and how fast virtual time went by.

use std::process::ExitCode;
use std::time::Instant;

use decnet_lifecycle::testkit::sim::{Honesty, Weather, simulate};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Ok(count), Ok(first)) = (numbers.next().unwrap_or(Ok(2_000)), numbers.next().unwrap_or(Ok(1)))
    else {
        eprintln!("usage: simulate [COUNT] [FIRST_SEED]");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let (mut years, mut rows, mut succeeded, mut crashes, mut broken) = (0.0, 0, 0, 0, 0);
    for seed in first..first.saturating_add(count) {
        let mut weather = Weather::default();
        if seed % 5 == 0 {
            weather.disk = Honesty::Lies;
        }
        match simulate(seed, &weather) {
            Ok(played) => {
                years += played.time.as_secs_f64() / (365.25 * 86_400.0);
                rows += played.rows;
                succeeded += played.succeeded;
                crashes += played.crashes;
            }
            Err(failure) => {
                broken += 1;
                eprintln!("{failure}");
            }
        }
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    println!(
        "{count} schedules from seed {first}: {rows} rows, {succeeded} succeeded, {crashes} crashes of the master, \
         {broken} broken; {years:.2} simulated years, {:.2} a minute, {:.0} schedules a second",
        years / minutes,
        count as f64 / minutes / 60.0
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
