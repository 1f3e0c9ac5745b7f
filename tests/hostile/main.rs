//! Hostile peers at a master: a table of each fault, the bound that must hold
//! while it lasts, and what was seen. An honest worker's beat and the health
//! check are asked for meanwhile, again and again.
//!
//! Bounds are those of a hang, not of speed; what is seen is printed.

#[path = "../processes/mod.rs"]
mod processes;

mod peers;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use peers::{Drip, Flood, Strangers, dripping_header, feed, is_cut, slow_body, slow_handshake};
use processes::{Data, Process, ask, request};

/// Whoever is honest is answered within this,
const ANSWERED: Duration = Duration::from_secs(10);
/// and what is hostile is over within this.
const OVER: Duration = Duration::from_secs(30);
/// The most memory that the master ever has.
const MEMORY: u64 = 64 << 20;
const IDLE: usize = 4_000;

struct Rig {
    data: Data,
    master: Process,
    broken: bool,
}

fn main() -> ExitCode {
    let room = peers::raise_limits();
    let idle = IDLE.min(room.saturating_sub(1_200) / 2);
    if idle < IDLE {
        eprintln!("NOTE: {room} open files are allowed here: {idle} strangers instead of {IDLE}");
    }
    let data = Data::with_hosts(&["w1", "w2", "w3"]);
    let master = Process::master(&data, &["--engine", "process"]);
    let mut rig = Rig { data, master, broken: false };
    println!("{:<58} {:>24}   seen", "fault", "bound");
    rig.play(idle);
    if rig.broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Rig {
    fn play(&mut self, idle: usize) {
        let (api, swarm) = (self.master.address("api"), self.master.address("swarm"));
        self.honest("nothing");

        let flood = Flood::start(&self.data, swarm, "w2", 512);
        self.honest("a worker holds all it can, with slow bodies");
        let begun = Instant::now();
        let mut held = flood.open();
        // Those that made room are on their way out.
        while held > 8 && begun.elapsed() < ANSWERED {
            held = flood.open();
        }
        self.tell("  of 512 connections it keeps", "at most 8", &held.to_string(), held <= 8);
        drop(flood);

        let strangers = Strangers::connect(swarm, idle);
        self.honest(&format!("{idle} idle strangers where beats are taken"));
        drop(strangers);
        let strangers = Strangers::connect(api, idle);
        self.honest(&format!("{idle} idle strangers at the API"));
        drop(strangers);
        let drip = Drip::start((0..600).map(|_| dripping_header(api)).collect());
        self.honest("600 requests at the API whose headers drip");
        drop(drip);
        let drip = Drip::start((0..600).map(|_| slow_handshake(swarm)).collect());
        self.honest("600 handshakes that drip");
        drop(drip);

        let (data, token) = (&self.data, self.data.token());
        let body = slow_body(data, swarm, "w1");
        let begun = Instant::now();
        let was_cut = is_cut(body, OVER);
        let dripped = begun.elapsed();
        self.within("a beat whose body drips is cut off", OVER, dripped, was_cut);

        let feeds: Vec<_> = (0..600).map(|_| feed(api, &token)).collect();
        self.honest("600 followers of the feed that read nothing");
        let refused = feeds.iter().filter(|feed| feed.is_refused()).count();
        self.tell("  of 600 are refused", "536 or more", &refused.to_string(), refused >= 536);
        drop(feeds);

        // Sooner than by their bodies' slowness alone.
        let begun = Instant::now();
        let held: Vec<_> = (0..4).map(|_| slow_body(&self.data, swarm, "w3")).collect();
        self.data.ok(&["hosts", "rm", "w3"]);
        let cut = held.into_iter().map(|held| is_cut(held, ANSWERED)).filter(|cut| *cut).count();
        self.within(
            "a host that is taken out is cut off sooner than that",
            dripped,
            begun.elapsed(),
            cut == 4,
        );

        let memory = self.memory();
        let shown = format!("{:.1} MiB", memory as f64 / f64::from(1 << 20));
        self.tell("memory of the master, at most ever", "64 MiB", &shown, memory < MEMORY);
    }

    /// Beats and health checks, while whatever it is lasts.
    fn honest(&mut self, what: &str) {
        let (mut beat, mut health, mut good) = (Duration::ZERO, Duration::ZERO, true);
        for _ in 0..5 {
            let begun = Instant::now();
            good &= peers::beat(&self.data, self.master.address("swarm"), "w1") == Some(204);
            beat = beat.max(begun.elapsed());
            let begun = Instant::now();
            good &= ask(self.master.address("api"), &request("GET", "/healthz", &[], "")).status == 200;
            health = health.max(begun.elapsed());
        }
        let seen = format!("beat {:.3} s, health {:.3} s", beat.as_secs_f64(), health.as_secs_f64());
        let bound = format!("answered in {} s", ANSWERED.as_secs());
        self.tell(what, &bound, &seen, good && beat.max(health) < ANSWERED);
    }

    fn within(&mut self, what: &str, bound: Duration, seen: Duration, good: bool) {
        let shown = if good { format!("{:.1} s", seen.as_secs_f64()) } else { "not at all".to_owned() };
        self.tell(what, &format!("{:.1} s", bound.as_secs_f64()), &shown, good && seen < bound);
    }

    fn tell(&mut self, what: &str, bound: &str, seen: &str, good: bool) {
        let verdict = if good { "" } else { "   BROKEN" };
        println!("{what:<58} {bound:>24}   {seen}{verdict}");
        self.broken |= !good;
    }

    /// The most that it ever had.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.master.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }
}
