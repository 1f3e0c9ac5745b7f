//! Plays simulated schedules: `simulate [COUNT] [FIRST_SEED] [WEATHER]`, on
//! every core. Prints each seed that broke something, and how fast virtual time
//! went by. The weather may be `blind-commits`, `far-steps-back` or `restores`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use decnet_lifecycle::testkit::sim::{Honesty, Played, Weather, simulate};

/// What many schedules came to.
#[derive(Default)]
struct Sum {
    years: f64,
    played: Played,
    broken: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().take(2).map(|text| text.parse::<u64>());
    let (Ok(count), Ok(first)) = (numbers.next().unwrap_or(Ok(2_000)), numbers.next().unwrap_or(Ok(1)))
    else {
        return usage();
    };
    let mut weather = Weather::default();
    match arguments.get(2).map(String::as_str) {
        None => {}
        Some("blind-commits") => weather.blind_commits = true,
        Some("far-steps-back") => weather.far_steps_back = true,
        Some("restores") => weather.restores = true,
        Some("lost-words") => weather.lost_words = 60,
        Some(_) => return usage(),
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let (next, end) = (AtomicU64::new(first), first.saturating_add(count));
    let sums: Vec<Sum> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| play(&next, end, weather))).collect();
        threads.into_iter().map(|thread| thread.join().expect("what breaks a schedule is told")).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let sum = sums.into_iter().fold(Sum::default(), add);
    let Played {
        rows,
        succeeded,
        seen,
        changes,
        crashes,
        store_losses,
        checks,
        whole_checks,
        watched,
        trace,
        ..
    } = sum.played;
    println!(
        "{count} schedules from seed {first}: {rows} rows, {succeeded} succeeded, {seen} of them as seen in beats, {changes} changes, {watched} \
         watched, {crashes} crashes of the master, {store_losses} losses of the store, {checks} checks, \
         {whole_checks} of them of every row, {} broken; trace {trace:016x}; {:.2} simulated years, {:.2} a minute, \
         {:.0} schedules a second on {cores} cores",
        sum.broken,
        sum.years,
        sum.years / seconds * 60.0,
        count as f64 / seconds
    );
    if sum.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: simulate [COUNT] [FIRST_SEED] [blind-commits|far-steps-back|restores|lost-words]");
    ExitCode::from(2)
}

/// Plays one seed after the other, until there are no more.
fn play(next: &AtomicU64, end: u64, usual: Weather) -> Sum {
    let mut sum = Sum::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return sum;
        }
        let mut weather = usual;
        if seed.is_multiple_of(5) {
            weather.disk = Honesty::Lies;
        }
        match simulate(seed, &weather) {
            Ok(played) => {
                let years = played.time.as_secs_f64() / (365.25 * 86_400.0);
                sum = add(sum, Sum { years, played, broken: 0 });
            }
            Err(failure) => {
                sum.broken += 1;
                eprintln!("{failure}");
            }
        }
    }
}

fn add(mut sum: Sum, other: Sum) -> Sum {
    sum.years += other.years;
    sum.broken += other.broken;
    let (to, from) = (&mut sum.played, other.played);
    to.rows += from.rows;
    to.succeeded += from.succeeded;
    to.seen += from.seen;
    to.changes += from.changes;
    to.crashes += from.crashes;
    to.store_losses += from.store_losses;
    to.checks += from.checks;
    to.whole_checks += from.whole_checks;
    to.watched += from.watched;
    // In any order.
    to.trace = to.trace.wrapping_add(from.trace);
    sum
}
