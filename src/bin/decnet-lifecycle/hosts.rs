//! `hosts`: which worker hosts there are, where, and by which certificates.

use decnet_lifecycle::{
    HostId,
    agent::{Host, HostsFile, Pin},
    placement::Home as Machine,
    store::PlacementQuery,
};
use serde_json::json;

use crate::args::Hosts;
use crate::home::Home;
use crate::output::Output;
use crate::pki::fingerprint_of;
use crate::{Complaint, Done};

pub async fn hosts(home: &Home, out: &Output, command: Hosts) -> Result<Done, Complaint> {
    let file = HostsFile::new(home.hosts_path());
    match command {
        Hosts::Add { id, address, pin, ca_only } => {
            let known = pin.or_else(|| fingerprint_of(home, &id)).map(Pin::Certificate);
            let pin = if ca_only { Some(Pin::CaOnly) } else { known };
            let pin = pin.ok_or_else(|| {
                Complaint(format!(
                    "which certificate does {id} show? give --pin FINGERPRINT, which `pki issue` printed, or --ca-only"
                ))
            })?;
            let host = Host { id, address, pin };
            home.make_root()?;
            file.add(host.clone())?;
            tell(out, &host);
        }
        Hosts::Ls => {
            let hosts = file.list()?;
            if hosts.is_empty() && !out.is_json() {
                crate::output::line("no hosts");
            }
            hosts.iter().for_each(|host| tell(out, host));
        }
        Hosts::Rm { id } => {
            let there = placed_at(home, &id).await?;
            tell(out, &file.remove(&id)?);
            if !there.is_empty() {
                crate::output::aside(&format!(
                    "note: {id} is removed, and {} deckies are placed there: {}; `teardown --forget {}` forgets them, whatever runs on",
                    there.len(),
                    there.join(", "),
                    there.join(" ")
                ));
            }
        }
        Hosts::Rotate { id, pin } => tell(out, &file.rotate(&id, pin)?),
        Hosts::Settle { id } => tell(out, &file.settle(&id)?),
    }
    Ok(Done::Well)
}

/// The deckies that are, or may be, on a host.
async fn placed_at(home: &Home, id: &HostId) -> Result<Vec<String>, Complaint> {
    let store = home.store_to_look_at().await?;
    let placements = store.placements(&PlacementQuery::At(Machine::Host(id.clone()))).await?;
    Ok(placements.iter().map(|placement| placement.decky.to_string()).collect())
}

fn tell(out: &Output, host: &Host) {
    let pins: Vec<String> = match host.pin {
        Pin::CaOnly => Vec::new(),
        Pin::Certificate(only) => vec![only.to_string()],
        Pin::Rotating { current, next } => vec![current.to_string(), next.to_string()],
    };
    let text = if pins.is_empty() { "any certificate of the CA".to_owned() } else { pins.join(" or ") };
    out.say(
        || json!({"event": "host", "id": host.id, "address": host.address, "pins": pins}),
        || format!("{:<20} {:<24} {text}", host.id, host.address),
    );
}
