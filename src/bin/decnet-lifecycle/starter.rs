//! Fleet files: a starter to begin with, a check, and what they may hold.

use std::path::Path;

use decnet_lifecycle::{
    FleetConfig,
    clock::{Clock as _, SystemClock},
    engine::Engine as _,
    fleet::{Archetype, HostNetwork, IniSettings},
};
use serde_json::json;

use crate::args::{Compose, EngineChoice, Init, Schema};
use crate::engines::compose_engine;
use crate::files::write_new;
use crate::fleet_file::{read_fleet, seed};
use crate::home::Home;
use crate::output::{Output, line};
use crate::{Complaint, Done, host_network};

/// What a machine that is on no network could be on.
const NETWORK: (&str, &str, &str) = ("eth0", "192.168.48.0/20", "192.168.48.1");
/// The machines of a fleet that was told nothing.
const MACHINES: [&str; 3] = ["linux-server", "web-server", "database-server"];

pub fn init(out: &Output, args: &Init) -> Result<Done, Complaint> {
    let text = format!("{}\n", starter(args)?.to_json().trim_end());
    if args.file == Path::new("-") {
        line(text.trim_end());
        return Ok(Done::Well);
    }
    write_new(&args.file, &text, 0o600)?;
    let file = args.file.display();
    out.say(
        || json!({"event": "init", "file": file.to_string()}),
        || format!("{file} is made; look at it, then `plan {file}` and `deploy {file}`"),
    );
    Ok(Done::Well)
}

/// A fleet on this machine's network, by the rules of an INI fleet.
fn starter(args: &Init) -> Result<FleetConfig, Complaint> {
    let mut settings = IniSettings::new(SystemClock::new().now(), seed());
    settings.log_file = None;
    settings.mutate_interval = None;
    settings.host = host_network::default();
    settings.taken = host_network::own_addresses();
    let mut text = String::from("[general]\n");
    if settings.host.is_none() {
        let (interface, net, gateway) = NETWORK;
        text.push_str(&format!("interface={interface}\nnet={net}\ngw={gateway}\n"));
    }
    let wanted = match &args.from_archetype {
        Some(archetype) => vec![archetype.slug; usize::from(args.deckies)],
        None => MACHINES.into_iter().cycle().take(usize::from(args.deckies)).collect(),
    };
    for (place, archetype) in wanted.iter().enumerate() {
        text.push_str(&format!("[decky-{:02}]\narchetype={archetype}\n", place + 1));
    }
    let fleet = FleetConfig::from_ini(text.as_bytes(), &settings).map_err(|error| {
        let network = settings.host.as_ref().map(|HostNetwork { subnet, .. }| subnet.to_string());
        Complaint(format!(
            "no fleet of {} deckies fits {}: {error}",
            args.deckies,
            network.as_deref().unwrap_or(NETWORK.1)
        ))
    })?;
    let mut fleet = fleet.fleet;
    // Nobody has mutated what is not there yet.
    fleet.deckies.iter_mut().for_each(|decky| decky.last_mutated = 0.0);
    Ok(fleet)
}

/// The archetype of this name.
pub fn archetype(name: &str) -> Result<&'static Archetype, String> {
    Archetype::named(name).ok_or_else(|| {
        let known: Vec<&str> = Archetype::ALL.iter().map(|archetype| archetype.slug).collect();
        format!("an archetype is one of {}", known.join(", "))
    })
}

/// What of a fleet file a deploy would refuse wherever it is run; what stands
/// in its way here and now, `plan` says.
pub fn check(
    home: &Home,
    out: &Output,
    path: &Path,
    engine: EngineChoice,
    compose: &Compose,
) -> Result<Done, Complaint> {
    let fleet = read_fleet(home, path, compose)?;
    let is_compose = match engine {
        EngineChoice::Auto => compose.means_containers(),
        chosen => chosen == EngineChoice::Compose,
    };
    // Of services, both engines know those of the catalogue.
    let checked = match is_compose || compose.catalogue.is_some() {
        true => compose_engine(home, compose)?.0.check(&fleet),
        false => home.process_engine().check(&fleet),
    };
    checked.map_err(|problems| Complaint(format!("fleet file {}: {problems}", path.display())))?;
    let services: usize = fleet.deckies.iter().map(|decky| decky.services.len()).sum();
    let (deckies, subnet, interface) = (fleet.deckies.len(), fleet.subnet, &fleet.interface);
    out.say(
        || json!({"event": "check", "deckies": deckies, "services": services, "subnet": subnet, "interface": interface}),
        || format!("good: {deckies} deckies with {services} services, in {subnet} on {interface}"),
    );
    Ok(Done::Well)
}

/// What a fleet file, or a catalogue, may hold.
pub fn schema(of: Schema) -> Done {
    let text = match of {
        Schema::Fleet => include_str!("../../../docs/schema/fleet.json"),
        Schema::Catalogue => include_str!("../../../docs/schema/catalogue.json"),
    };
    line(text.trim_end());
    Done::Well
}
