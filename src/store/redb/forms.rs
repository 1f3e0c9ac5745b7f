//! How rows and placements are written: types of their own, so that the public
//! ones may grow without touching a file. What they hold is added to at the
//! end only, and under a new number of the form.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fleet::DeckyConfig;
use crate::lifecycle::{
    DeckyName, EngineName, Failure, FailureKind, HostId, LifecycleId, MasterName, NameError, Operation,
    Owner, Phase, Record, RequestKey, Revision, Timestamp,
};
use crate::placement::{Aim, Home, Network, Placed, Placement, Standing, Tried};
use crate::store::StoreError;

use super::tables::{Kind, seal, unseal};

/// A row. Times are told from the one before them, which takes fewer bytes.
#[derive(Serialize, Deserialize)]
struct RowForm {
    decky: String,
    host: Option<String>,
    operation: u8,
    phase: PhaseForm,
    master: String,
    epoch: u64,
    created_at: i64,
    updated_after: i64,
    cancel_after: Option<i64>,
    claimed_after: Option<i64>,
    key: Option<String>,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
enum PhaseForm {
    Pending { deadline_after: i64 },
    Running { since_after: i64, deadline_after: i64 },
    Succeeded { since_after: i64, at_after: i64 },
    Failed { since_after: Option<i64>, at_after: i64, kind: u8, message: String },
}

const fn operation_number(operation: Operation) -> u8 {
    match operation {
        Operation::Deploy => 0,
        Operation::Mutate => 1,
        Operation::Teardown => 2,
    }
}

const fn operation_of(number: u8) -> Option<Operation> {
    match number {
        0 => Some(Operation::Deploy),
        1 => Some(Operation::Mutate),
        2 => Some(Operation::Teardown),
        _ => None,
    }
}

/// The kinds of failures by their numbers on disk, which never change.
const KINDS: [FailureKind; 14] = [
    FailureKind::Engine,
    FailureKind::Dispatch,
    FailureKind::Rejected,
    FailureKind::Deadline,
    FailureKind::Superseded,
    FailureKind::Cancelled,
    FailureKind::MasterRestarted,
    FailureKind::WorkerLost,
    FailureKind::Panic,
    FailureKind::Reported,
    FailureKind::Abandoned,
    FailureKind::Unreachable,
    FailureKind::Store,
    FailureKind::Clash,
];

fn kind_number(kind: FailureKind) -> u8 {
    // Every kind stands in the list; a test sees to it.
    KINDS.iter().position(|known| *known == kind).and_then(|place| u8::try_from(place).ok()).unwrap_or(0)
}

const fn after(base: Timestamp, at: Timestamp) -> i64 {
    at.as_micros().wrapping_sub(base.as_micros())
}

const fn at(base: Timestamp, after: i64) -> Timestamp {
    Timestamp::from_micros(base.as_micros().wrapping_add(after))
}

pub(super) fn seal_row(row: &Record) -> Result<Vec<u8>, StoreError> {
    let base = row.created_at;
    let phase = match &row.phase {
        Phase::Pending { deadline } => PhaseForm::Pending { deadline_after: after(base, *deadline) },
        Phase::Running { since, deadline } => {
            PhaseForm::Running { since_after: after(base, *since), deadline_after: after(*since, *deadline) }
        }
        Phase::Succeeded { since, at } => {
            PhaseForm::Succeeded { since_after: after(base, *since), at_after: after(*since, *at) }
        }
        Phase::Failed { since, at, failure } => PhaseForm::Failed {
            since_after: since.map(|since| after(base, since)),
            at_after: after(since.unwrap_or(base), *at),
            kind: kind_number(failure.kind()),
            message: failure.message().to_owned(),
        },
    };
    let form = RowForm {
        decky: row.decky.as_str().to_owned(),
        host: row.host.as_ref().map(|host| host.as_str().to_owned()),
        operation: operation_number(row.operation),
        phase,
        master: row.owner.master.as_str().to_owned(),
        epoch: row.owner.epoch,
        created_at: base.as_micros(),
        updated_after: after(base, row.updated_at),
        cancel_after: row.cancel_requested_at.map(|cancel| after(base, cancel)),
        claimed_after: row.claimed_completion.map(|claimed| after(base, claimed)),
        key: row.key.as_ref().map(|key| key.as_str().to_owned()),
        revision: row.revision.get(),
    };
    seal(Kind::Row, &row.id.as_u128().to_be_bytes(), &form)
}

pub(super) fn unseal_row(id: u128, bytes: &[u8]) -> Result<Record, StoreError> {
    let shown = LifecycleId::from_u128(id);
    let form: RowForm = unseal(Kind::Row, &id.to_be_bytes(), &shown, bytes)?;
    row_of(shown, form)
        .ok_or_else(|| StoreError::Corrupt { what: format!("table rows, key {shown}: it is no row") })
}

/// The row of a form, whatever its checksum.
#[cfg(feature = "testkit")]
pub(crate) fn row_of_form(id: LifecycleId, form: &[u8]) -> Result<Record, StoreError> {
    let id = id.as_u128();
    unseal_row(id, &super::tables::seal_form(Kind::Row, &id.to_be_bytes(), form))
}

/// The form of a row, without its checksum.
#[cfg(feature = "testkit")]
pub(crate) fn form_of_row(row: &Record) -> Result<Vec<u8>, StoreError> {
    Ok(super::tables::form_of(&seal_row(row)?).to_vec())
}

fn row_of(id: LifecycleId, form: RowForm) -> Option<Record> {
    let base = Timestamp::from_micros(form.created_at);
    let phase = match form.phase {
        PhaseForm::Pending { deadline_after } => Phase::Pending { deadline: at(base, deadline_after) },
        PhaseForm::Running { since_after, deadline_after } => {
            let since = at(base, since_after);
            Phase::Running { since, deadline: at(since, deadline_after) }
        }
        PhaseForm::Succeeded { since_after, at_after } => {
            let since = at(base, since_after);
            Phase::Succeeded { since, at: at(since, at_after) }
        }
        PhaseForm::Failed { since_after, at_after, kind, message } => {
            let since = since_after.map(|since| at(base, since));
            let failure = Failure::new(*KINDS.get(usize::from(kind))?, &message);
            Phase::Failed { since, at: at(since.unwrap_or(base), at_after), failure }
        }
    };
    Some(Record {
        id,
        decky: DeckyName::parse(&form.decky).ok()?,
        host: optional(form.host, HostId::parse)?,
        operation: operation_of(form.operation)?,
        phase,
        owner: Owner { master: MasterName::parse(&form.master).ok()?, epoch: form.epoch },
        created_at: base,
        updated_at: at(base, form.updated_after),
        cancel_requested_at: form.cancel_after.map(|cancel| at(base, cancel)),
        claimed_completion: form.claimed_after.map(|claimed| at(base, claimed)),
        key: optional(form.key, RequestKey::parse)?,
        revision: Revision::new(form.revision),
    })
}

/// None inside where there is none, none outside where it is no name.
fn optional<T>(text: Option<String>, parse: impl Fn(&str) -> Result<T, NameError>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => parse(&text).ok().map(Some),
    }
}

/// A placement; a decky as placed stands once, however often it is named.
#[derive(Serialize, Deserialize)]
struct PlacementForm {
    placed: Vec<PlacedForm>,
    standing: StandingForm,
    tried: Vec<TriedForm>,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
enum StandingForm {
    Nothing,
    Up { placed: u32, row: Option<u128> },
    Unsure { perhaps: Vec<u32>, row: u128 },
}

#[derive(Serialize, Deserialize)]
struct TriedForm {
    row: u128,
    /// As what it shall be up; none if it shall be gone.
    up: Option<u32>,
    begun: bool,
}

#[derive(Serialize, Deserialize)]
struct PlacedForm {
    ip: IpAddr,
    services: Vec<String>,
    distro: String,
    base_image: String,
    build_base: String,
    hostname: String,
    archetype: Option<String>,
    /// JSON, for a setting may be any; empty if there are none.
    service_config: String,
    nmap_os: String,
    mutate_interval: Option<i64>,
    last_mutated: f64,
    last_login_attempt: f64,
    host: Option<String>,
    interface: String,
    subnet: String,
    gateway: IpAddr,
    ipvlan: bool,
    home: String,
    engine: Option<String>,
    log_file: Option<String>,
    fleet_interval: Option<i64>,
}

pub(super) fn seal_placement(placement: &Placement) -> Result<Vec<u8>, StoreError> {
    let mut all: Vec<&Arc<Placed>> = Vec::new();
    for placed in placement.possibilities() {
        if !all.contains(&placed) {
            all.push(placed);
        }
    }
    let place = |placed: &Arc<Placed>| {
        all.iter().position(|known| *known == placed).and_then(|place| u32::try_from(place).ok()).unwrap_or(0)
    };
    let standing = match &placement.standing {
        Standing::Nothing => StandingForm::Nothing,
        Standing::Up { placed, row } => {
            StandingForm::Up { placed: place(placed), row: row.map(LifecycleId::as_u128) }
        }
        Standing::Unsure { perhaps, row } => {
            StandingForm::Unsure { perhaps: perhaps.iter().map(place).collect(), row: row.as_u128() }
        }
    };
    let tried = placement.tried.iter().map(|(row, tried)| TriedForm {
        row: row.as_u128(),
        up: match &tried.aim {
            Aim::Up(placed) => Some(place(placed)),
            Aim::Gone => None,
        },
        begun: tried.begun,
    });
    let form = PlacementForm {
        standing,
        tried: tried.collect(),
        revision: placement.revision.get(),
        placed: all.iter().map(|placed| placed_form(placed)).collect(),
    };
    seal(Kind::Placement, placement.decky.as_str().as_bytes(), &form)
}

fn placed_form(placed: &Placed) -> PlacedForm {
    let config = placed.config.clone();
    let settings = &config.service_config;
    PlacedForm {
        ip: config.ip,
        services: config.services.iter().map(|service| service.as_str().to_owned()).collect(),
        // Maps of JSON always are JSON.
        service_config: match settings.is_empty() {
            true => String::new(),
            false => serde_json::to_string(settings).unwrap_or_default(),
        },
        distro: config.distro,
        base_image: config.base_image,
        build_base: config.build_base,
        hostname: config.hostname,
        archetype: config.archetype,
        nmap_os: config.nmap_os,
        mutate_interval: config.mutate_interval,
        last_mutated: config.last_mutated,
        last_login_attempt: config.last_login_attempt,
        host: config.host_uuid.map(String::from),
        interface: placed.network.interface.clone(),
        subnet: placed.network.subnet.to_string(),
        gateway: placed.network.gateway,
        ipvlan: placed.network.ipvlan,
        home: placed.home.key(),
        engine: placed.engine.clone().map(String::from),
        log_file: placed.log_file.clone(),
        fleet_interval: placed.mutate_interval,
    }
}

pub(super) fn unseal_placement(decky: &str, bytes: &[u8]) -> Result<Placement, StoreError> {
    let form: PlacementForm = unseal(Kind::Placement, decky.as_bytes(), &decky, bytes)?;
    placement_of(decky, form).ok_or_else(|| StoreError::Corrupt {
        what: format!("table placements, key {decky}: it is no placement"),
    })
}

/// What an ended row took out of the placement of its decky, under the row.
#[derive(Serialize, Deserialize)]
struct SetAsideForm {
    decky: String,
    placed: PlacedForm,
}

pub(super) fn seal_set_aside(row: LifecycleId, placed: &Placed) -> Result<Vec<u8>, StoreError> {
    let form = SetAsideForm { decky: placed.config.name.as_str().to_owned(), placed: placed_form(placed) };
    seal(Kind::SetAside, &row.as_u128().to_be_bytes(), &form)
}

pub(super) fn unseal_set_aside(row: LifecycleId, bytes: &[u8]) -> Result<Placed, StoreError> {
    let form: SetAsideForm = unseal(Kind::SetAside, &row.as_u128().to_be_bytes(), &row, bytes)?;
    let placed = DeckyName::parse(&form.decky).ok().and_then(|decky| placed_of(&decky, form.placed));
    placed.ok_or_else(|| StoreError::Corrupt { what: format!("table set-aside, key {row}: it is no decky") })
}

fn placement_of(decky: &str, form: PlacementForm) -> Option<Placement> {
    let decky = DeckyName::parse(decky).ok()?;
    let all: Option<Vec<Arc<Placed>>> =
        form.placed.into_iter().map(|placed| placed_of(&decky, placed).map(Arc::new)).collect();
    let all = all?;
    let at = |place: u32| all.get(usize::try_from(place).ok()?).cloned();
    let standing = match form.standing {
        StandingForm::Nothing => Standing::Nothing,
        StandingForm::Up { placed, row } => {
            Standing::Up { placed: at(placed)?, row: row.map(LifecycleId::from_u128) }
        }
        StandingForm::Unsure { perhaps, row } => Standing::Unsure {
            perhaps: perhaps.into_iter().map(at).collect::<Option<_>>()?,
            row: LifecycleId::from_u128(row),
        },
    };
    let mut tried = BTreeMap::new();
    for one in form.tried {
        let aim = match one.up {
            Some(place) => Aim::Up(at(place)?),
            None => Aim::Gone,
        };
        tried.insert(LifecycleId::from_u128(one.row), Tried { aim, begun: one.begun });
    }
    Some(Placement::from_parts(decky, standing, tried, Revision::new(form.revision)))
}

fn placed_of(decky: &DeckyName, form: PlacedForm) -> Option<Placed> {
    let settings: BTreeMap<String, Map<String, Value>> = match form.service_config.is_empty() {
        true => BTreeMap::new(),
        false => serde_json::from_str(&form.service_config).ok()?,
    };
    let services: Result<Vec<_>, _> =
        form.services.iter().map(|service| crate::lifecycle::ServiceName::parse(service)).collect();
    Some(Placed {
        config: DeckyConfig {
            name: decky.clone(),
            ip: form.ip,
            services: services.ok()?,
            distro: form.distro,
            base_image: form.base_image,
            build_base: form.build_base,
            hostname: form.hostname,
            archetype: form.archetype,
            service_config: settings,
            nmap_os: form.nmap_os,
            mutate_interval: form.mutate_interval,
            last_mutated: form.last_mutated,
            last_login_attempt: form.last_login_attempt,
            host_uuid: optional(form.host, HostId::parse)?,
        },
        network: Network {
            interface: form.interface,
            subnet: form.subnet.parse().ok()?,
            gateway: form.gateway,
            ipvlan: form.ipvlan,
        },
        home: Home::from_key(&form.home)?,
        engine: optional(form.engine, EngineName::parse)?,
        log_file: form.log_file,
        mutate_interval: form.fleet_interval,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_a_number() {
        let failures = [
            FailureKind::Engine,
            FailureKind::Dispatch,
            FailureKind::Rejected,
            FailureKind::Deadline,
            FailureKind::Superseded,
            FailureKind::Cancelled,
            FailureKind::MasterRestarted,
            FailureKind::WorkerLost,
            FailureKind::Panic,
            FailureKind::Reported,
            FailureKind::Abandoned,
            FailureKind::Unreachable,
            FailureKind::Store,
            FailureKind::Clash,
        ];
        for (number, kind) in failures.into_iter().enumerate() {
            assert_eq!(usize::from(kind_number(kind)), number, "{kind}");
        }
    }
}
