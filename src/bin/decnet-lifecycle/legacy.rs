//! Takes the state file of the first version over into the store.

use decnet_lifecycle::placement::{Home as Machine, Placed};
use decnet_lifecycle::{
    decide::{Batch, Change, Outcome},
    fleet::DeployedFleet,
    lifecycle::{EngineName, MasterName},
    placement::Placement,
    store::Store,
};

use crate::Complaint;
use crate::home::Home;

/// Places what the first version's `fleet-state.json` says is deployed, in one
/// commit, and puts the file aside. What contradicts is told. Once the file is
/// aside there is nothing to do; a crash before that does it again, which
/// changes nothing.
pub async fn take_over(home: &Home, store: &dyn Store, master: &MasterName) -> Result<(), Complaint> {
    let path = home.fleet_state_path();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Complaint(format!("{}: {error}", path.display()))),
    };
    let state = match DeployedFleet::salvage(&bytes) {
        Ok(state) => state,
        Err(error) => {
            crate::output::aside(&format!(
                "note: {} says nothing that can be read, so nothing of it is placed; what runs is shown by `ps`: {error}",
                path.display()
            ));
            return set_aside(home);
        }
    };
    let engine = if state.compose_path.is_empty() { "process" } else { "compose" };
    let engine = EngineName::parse(engine)?;
    let placements: Vec<Placement> = state
        .deckies
        .iter()
        .flat_map(|fleet| fleet.deckies.iter().map(move |config| (fleet, config)))
        .map(|(fleet, config)| {
            let mut placed = Placed::new(fleet, config, master, Some(&engine));
            // A unihost deploy after one to a swarm left all of the merged file
            // unihost. A worker's own file is so rightly.
            if let Some(host) = config.host_uuid.clone().filter(|_| home.is_masters()) {
                (placed.home, placed.engine) = (Machine::Host(host), None);
            }
            Placement::taken_over(placed)
        })
        .collect();
    let changes = placements.into_iter().map(|placement| Change::Place(Box::new(placement))).collect();
    let outcomes = store.commit(Batch::per_row(changes)).await?;
    let mut placed = 0;
    for outcome in outcomes {
        match outcome {
            Outcome::Refused(refusal) => {
                crate::output::aside(&format!("note: not taken over from fleet-state.json: {refusal}"));
            }
            _ => placed += 1,
        }
    }
    for error in &state.left_out {
        crate::output::aside(&format!("note: not taken over from fleet-state.json: {error}"));
    }
    crate::output::aside(&format!(
        "note: {placed} deckies of fleet-state.json are placed in the store from now on; the file is kept as {}",
        home.taken_over_path().display()
    ));
    set_aside(home)
}

fn set_aside(home: &Home) -> Result<(), Complaint> {
    std::fs::rename(home.fleet_state_path(), home.taken_over_path())
        .map_err(|error| Complaint(format!("{}: {error}", home.fleet_state_path().display())))
}
