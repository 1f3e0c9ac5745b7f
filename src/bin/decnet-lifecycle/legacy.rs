//! Takes the state file of the first version over into the store.

use std::path::PathBuf;

use decnet_lifecycle::placement::{Home as Machine, Placed};
use decnet_lifecycle::{
    decide::{Batch, Change, Outcome},
    fleet::DeployedFleet,
    lifecycle::{EngineName, MasterName},
    placement::Placement,
    store::Store,
};

use crate::Complaint;

/// What the first version left in a data directory.
pub struct Earlier {
    /// Its state file.
    pub state: PathBuf,
    /// Where that goes once it is taken over.
    pub aside: PathBuf,
    /// Whether it is a master's; else it is a worker's.
    pub is_masters: bool,
}

/// Places what the first version's `fleet-state.json` says is deployed, in one
/// commit, and puts the file aside. What contradicts is told. Once the file is
/// aside there is nothing to do; a crash before that does it again, which
/// changes nothing.
pub async fn take_over(earlier: &Earlier, store: &dyn Store, master: &MasterName) -> Result<(), Complaint> {
    let path = &earlier.state;
    let bytes = match std::fs::read(path) {
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
            return set_aside(earlier);
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
            if let Some(host) = config.host_uuid.clone().filter(|_| earlier.is_masters) {
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
        earlier.aside.display()
    ));
    set_aside(earlier)
}

fn set_aside(earlier: &Earlier) -> Result<(), Complaint> {
    std::fs::rename(&earlier.state, &earlier.aside)
        .map_err(|error| Complaint(format!("{}: {error}", earlier.state.display())))
}
