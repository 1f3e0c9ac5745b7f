//! What the fuzz targets do; `tests/corpus.rs` replays their corpora on stable.
#![allow(dead_code, reason = "each target uses one of them")]

use decnet_lifecycle::bus::unix::Frame;
use decnet_lifecycle::testkit::{decode_stored_row, encode_stored_row};
use decnet_lifecycle::{Failure, FleetConfig, LifecycleId, fleet::DeployedFleet, store::Cursor};

mod bytes;
mod compose;
mod database;
mod decide;
mod ini;
mod master;
mod migrate;
mod nats;
mod store;
mod texts;
#[path = "../../tests/toy/mod.rs"]
mod toy;
mod wire;

pub use compose::compose;
pub use database::database;
pub use decide::decide;
pub use ini::ini;
pub use master::{deltas, strategies};
pub use migrate::migrate;
pub use nats::nats;
pub use store::store;
pub use texts::{secrets, text};
pub use wire::{answer, beat, dispatch};

/// What a target does with its bytes.
pub type Body = fn(&[u8]);

/// The bodies by the names of their corpora.
pub const ALL: [(&str, Body); 18] = [
    ("record", record),
    ("cursor", cursor),
    ("fleet", fleet),
    ("ini", ini),
    ("compose", compose),
    ("frame", frame),
    ("beat", beat),
    ("dispatch", dispatch),
    ("answer", answer),
    ("deltas", deltas),
    ("strategies", strategies),
    ("store", store),
    ("database", database),
    ("decide", decide),
    ("migrate", migrate),
    ("text", text),
    ("secrets", secrets),
    ("nats", nats),
];

/// Panics that are caught are part of the game; libFuzzer's own hook would end
/// it. One that isn't caught still does.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

/// Stored bytes are a row that reads back the same, or an error.
pub fn record(data: &[u8]) {
    let Some((id, bytes)) = data.split_first_chunk::<16>() else { return };
    let id = LifecycleId::from_u128(u128::from_be_bytes(*id));
    let Ok(row) = decode_stored_row(id, bytes) else { return };
    assert_eq!(row.id, id);
    let again = encode_stored_row(&row).unwrap();
    assert_eq!(decode_stored_row(id, &again).unwrap(), row);
    if let Some(failure) = row.failure() {
        assert!(failure.to_string().chars().count() <= Failure::MAX_LEN);
        assert_eq!(Failure::new(failure.kind(), failure.message()), *failure);
    }
}

/// A cursor reads back the same.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(cursor) = text.parse::<Cursor>() else { return };
    assert_eq!(cursor.to_string().parse(), Ok(cursor));
}

/// Bytes from the bus are frames that read back the same, or an error; what
/// isn't whole yet stays as it is.
pub fn frame(data: &[u8]) {
    let mut received = data.to_vec();
    loop {
        let before = received.clone();
        match Frame::take(&mut received) {
            Ok(Some(frame)) => {
                assert!(received.len() < before.len());
                assert_eq!(Frame::take(&mut frame.to_bytes()), Ok(Some(frame)));
            }
            Ok(None) | Err(_) => {
                assert_eq!(received, before);
                return;
            }
        }
    }
}

/// A fleet file is refused with every problem named, or reads back the same.
pub fn fleet(data: &[u8]) {
    match FleetConfig::from_json(data) {
        Ok(fleet) => {
            assert_eq!(FleetConfig::from_json(fleet.to_json().as_bytes()).unwrap(), fleet);
            let shards = fleet.shards();
            let sharded = shards.local.len() + shards.hosts.values().map(Vec::len).sum::<usize>();
            assert_eq!(sharded, fleet.deckies.len());
            let state = DeployedFleet { config: fleet, compose_path: "x".into() };
            assert_eq!(DeployedFleet::from_json(state.to_json().as_bytes()).unwrap(), state);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = DeployedFleet::from_json(data);
}
