//! Host names, and services of deckies that name none.

use std::collections::{BTreeSet, HashSet};

use fastrand::Rng;
use sha2::{Digest as _, Sha256};

use crate::fleet::distro::{Distro, Hostnames};
use crate::lifecycle::{DeckyName, ServiceName};

use super::services::SAME_PORT;

/// What the original makes host names of.
const WORDS: [&str; 25] = [
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo",
    "lima", "mike", "nova", "oscar", "prod", "web", "db", "mail", "proxy", "dev", "stage", "backup",
    "monitor", "files",
];

/// So often another host name is drawn if one is there already.
const TRIES: usize = 64;

/// The dice of one decky: the same name and seed throw the same.
pub(super) fn dice(seed: u64, decky: &DeckyName) -> Rng {
    let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(decky.as_str()).finalize();
    Rng::with_seed(digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
}

/// A host name as this distribution's look, which no other has if that can be.
pub(super) fn hostname(dice: &mut Rng, distro: &Distro, there: &mut HashSet<String>) -> String {
    let mut name = draw(dice, distro);
    for _ in 0..TRIES {
        if !there.contains(&name) {
            break;
        }
        name = draw(dice, distro);
    }
    there.insert(name.clone());
    name
}

fn draw(dice: &mut Rng, distro: &Distro) -> String {
    let word = |dice: &mut Rng| dice.choice(WORDS).unwrap_or("alpha");
    let first = word(dice);
    match distro.hostnames {
        Hostnames::Server => format!("SRV-{}-{}", first.to_uppercase(), dice.u8(10..100)),
        Hostnames::LocalDomain => format!("{first}{}.localdomain", dice.u8(10..100)),
        Hostnames::WordAndNumber => format!("{first}-{}", dice.u8(10..100)),
        Hostnames::TwoWords => format!("{first}-{}", word(dice)),
    }
}

/// One to three services, no two of which want the same port.
pub(super) fn services(dice: &mut Rng, known: &BTreeSet<ServiceName>) -> Vec<ServiceName> {
    let wanted = dice.usize(1..=3);
    let mut pool: Vec<&ServiceName> = known.iter().collect();
    dice.shuffle(&mut pool);
    let mut drawn: Vec<ServiceName> = Vec::new();
    for service in pool {
        let clashes = |other: &ServiceName| {
            let (a, b) = (service.as_str(), other.as_str());
            SAME_PORT.contains(&(a, b)) || SAME_PORT.contains(&(b, a))
        };
        if drawn.len() < wanted && !drawn.iter().any(clashes) {
            drawn.push(service.clone());
        }
    }
    drawn
}
