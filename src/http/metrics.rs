//! Numbers, in Prometheus' text format.

use std::fmt::Write as _;

use axum::http::{HeaderValue, header};
use axum::response::Response;

use crate::store::StoreHealth;

use super::api::Master;

pub fn metrics(master: &Master) -> Response {
    let counters = master.runner.counters();
    let (beats, refused) =
        master.swarm.as_ref().map_or((0, 0), |swarm| (swarm.beats(), swarm.beats_refused()));
    let writable = master.runner.journal().store().health() == StoreHealth::Good;
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("steps_total", "counter", "Rows changed durably.", counters.steps),
        ("commits_total", "counter", "Commits that changed at least one row.", counters.commits),
        ("conflicts_total", "counter", "Steps refused because the row had changed.", counters.conflicts),
        (
            "store_errors_total",
            "counter",
            "Commits that failed or whose fate is unknown.",
            counters.store_errors,
        ),
        ("bus_events_dropped_total", "counter", "Events that the bus dropped.", counters.events_dropped),
        ("beats_total", "counter", "Beats taken.", beats),
        ("beats_refused_total", "counter", "Beats refused.", refused),
        ("store_writable", "gauge", "Whether the store can be written.", u64::from(writable)),
        ("rows_active", "gauge", "Rows that this master drives now.", counters.active as u64),
        (
            "deckies_drifted",
            "gauge",
            "Deckies that did not run as placed at the last look, or ran and were not placed.",
            counters.drifted as u64,
        ),
        ("drifts_total", "counter", "How often a decky was seen to begin to drift.", counters.drifts),
        ("heals_total", "counter", "Rows that were made to bring deckies back.", counters.heals),
    ] {
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "# HELP decnet_lifecycle_{name} {help}\n# TYPE decnet_lifecycle_{name} {kind}\ndecnet_lifecycle_{name} {value}\n"
        );
    }
    let mut response = Response::new(text.into());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
