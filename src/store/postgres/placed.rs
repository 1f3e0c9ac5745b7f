//! Placements as columns: what people and lookups ask for by itself, all else
//! as JSON of a form of our own, so that the public types may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::decide::Decision;
use crate::fleet::DeckyConfig;
use crate::lifecycle::{DeckyName, EngineName, HostId, LifecycleId, Revision, ServiceName};
use crate::placement::{Aim, Home, Network, Placed, Placement, Standing, Tried};
use crate::store::StoreError;

use super::connect::Param;
use super::rows::{Columns, Damaged, corrupt, id_of, signed, uuid};

pub(super) const COLUMNS: &str = "decky, standing, revision, homes, addresses, rows, detail::text";

/// A decky as placed stands once, however often it is named.
#[derive(Serialize, Deserialize)]
struct Detail {
    placed: Vec<PlacedForm>,
    standing: StandingForm,
    tried: Vec<TriedForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StandingForm {
    Nothing,
    Up { placed: usize, row: Option<LifecycleId> },
    Unsure { perhaps: Vec<usize>, row: LifecycleId },
}

impl StandingForm {
    const fn word(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Up { .. } => "up",
            Self::Unsure { .. } => "unsure",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct TriedForm {
    row: LifecycleId,
    /// As what it shall be up; none if it shall be gone.
    up: Option<usize>,
    begun: bool,
}

#[derive(Serialize, Deserialize)]
struct PlacedForm {
    ip: IpAddr,
    services: Vec<ServiceName>,
    distro: String,
    base_image: String,
    build_base: String,
    hostname: String,
    archetype: Option<String>,
    service_config: BTreeMap<String, Map<String, Value>>,
    nmap_os: String,
    mutate_interval: Option<i64>,
    /// None for what JSON has no number for.
    last_mutated: Option<f64>,
    last_login_attempt: Option<f64>,
    host: Option<HostId>,
    interface: String,
    subnet: ipnet::IpNet,
    gateway: IpAddr,
    ipvlan: bool,
    home: String,
    engine: Option<EngineName>,
    log_file: Option<String>,
    fleet_interval: Option<i64>,
}

fn detail_of(placement: &Placement) -> Detail {
    let mut all: Vec<&Arc<Placed>> = Vec::new();
    for placed in placement.possibilities() {
        if !all.contains(&placed) {
            all.push(placed);
        }
    }
    let place = |placed: &Arc<Placed>| all.iter().position(|known| *known == placed).unwrap_or(0);
    let standing = match &placement.standing {
        Standing::Nothing => StandingForm::Nothing,
        Standing::Up { placed, row } => StandingForm::Up { placed: place(placed), row: *row },
        Standing::Unsure { perhaps, row } => {
            StandingForm::Unsure { perhaps: perhaps.iter().map(place).collect(), row: *row }
        }
    };
    let tried = placement.tried.iter().map(|(row, tried)| TriedForm {
        row: *row,
        up: match &tried.aim {
            Aim::Up(placed) => Some(place(placed)),
            Aim::Gone => None,
        },
        begun: tried.begun,
    });
    let tried = tried.collect();
    Detail { standing, tried, placed: all.iter().map(|placed| placed_form(placed)).collect() }
}

fn placed_form(placed: &Placed) -> PlacedForm {
    let config = placed.config.clone();
    PlacedForm {
        ip: config.ip,
        services: config.services,
        distro: config.distro,
        base_image: config.base_image,
        build_base: config.build_base,
        hostname: config.hostname,
        archetype: config.archetype,
        service_config: config.service_config,
        nmap_os: config.nmap_os,
        mutate_interval: config.mutate_interval,
        last_mutated: Some(config.last_mutated).filter(|number| number.is_finite()),
        last_login_attempt: Some(config.last_login_attempt).filter(|number| number.is_finite()),
        host: config.host_uuid,
        interface: placed.network.interface.clone(),
        subnet: placed.network.subnet,
        gateway: placed.network.gateway,
        ipvlan: placed.network.ipvlan,
        home: placed.home.key(),
        engine: placed.engine.clone(),
        log_file: placed.log_file.clone(),
        fleet_interval: placed.mutate_interval,
    }
}

fn placed_of(decky: &DeckyName, form: PlacedForm) -> Option<Placed> {
    Some(Placed {
        config: DeckyConfig {
            name: decky.clone(),
            ip: form.ip,
            services: form.services,
            distro: form.distro,
            base_image: form.base_image,
            build_base: form.build_base,
            hostname: form.hostname,
            archetype: form.archetype,
            service_config: form.service_config,
            nmap_os: form.nmap_os,
            mutate_interval: form.mutate_interval,
            last_mutated: form.last_mutated.unwrap_or(f64::NAN),
            last_login_attempt: form.last_login_attempt.unwrap_or(f64::NAN),
            host_uuid: form.host,
        },
        network: Network {
            interface: form.interface,
            subnet: form.subnet,
            gateway: form.gateway,
            ipvlan: form.ipvlan,
        },
        home: Home::from_key(&form.home)?,
        engine: form.engine,
        log_file: form.log_file,
        mutate_interval: form.fleet_interval,
    })
}

fn placement_of(decky: DeckyName, detail: Detail, revision: Revision) -> Option<Placement> {
    let all: Option<Vec<Arc<Placed>>> =
        detail.placed.into_iter().map(|placed| placed_of(&decky, placed).map(Arc::new)).collect();
    let all = all?;
    let at = |place: usize| all.get(place).cloned();
    let standing = match detail.standing {
        StandingForm::Nothing => Standing::Nothing,
        StandingForm::Up { placed, row } => Standing::Up { placed: at(placed)?, row },
        StandingForm::Unsure { perhaps, row } => {
            Standing::Unsure { perhaps: perhaps.into_iter().map(at).collect::<Option<_>>()?, row }
        }
    };
    let mut tried = BTreeMap::new();
    for one in detail.tried {
        let aim = match one.up {
            Some(place) => Aim::Up(at(place)?),
            None => Aim::Gone,
        };
        tried.insert(one.row, Tried { aim, begun: one.begun });
    }
    Some(Placement::from_parts(decky, standing, tried, revision))
}

/// What lookups go by.
#[derive(PartialEq)]
struct Lookups {
    homes: Vec<String>,
    addresses: Vec<String>,
    rows: Vec<LifecycleId>,
}

impl Lookups {
    fn of(placement: &Placement) -> Self {
        let all = || placement.possibilities();
        let homes: BTreeSet<String> = all().map(|placed| placed.home.key()).collect();
        let addresses: BTreeSet<String> = all().map(|placed| placed.config.ip.to_string()).collect();
        let rows: BTreeSet<LifecycleId> = placement.rows().collect();
        Self {
            homes: Vec::from_iter(homes),
            addresses: Vec::from_iter(addresses),
            rows: Vec::from_iter(rows),
        }
    }
}

/// Reads a placement of [`COLUMNS`]; the decky whose it is stands beside what
/// is wrong with it.
pub(super) fn placement(row: &Row) -> Result<Placement, (String, StoreError)> {
    let key = row.try_get::<_, &str>(0).unwrap_or("?").to_owned();
    read(row).map_err(|damaged| {
        let error = corrupt("placements", &key, &damaged);
        (key, error)
    })
}

fn read(row: &Row) -> Result<Placement, Damaged> {
    let mut columns = Columns::of(row, 0);
    let decky = columns.name("decky", DeckyName::parse)?;
    let word: &str = columns.next("standing")?;
    let revision = columns.revision()?;
    let lookups = Lookups {
        homes: columns.next("homes")?,
        addresses: columns.next("addresses")?,
        rows: columns.next::<Vec<Uuid>>("rows")?.into_iter().map(id_of).collect(),
    };
    let detail: &str = columns.next("detail")?;
    let detail: Detail = serde_json::from_str(detail).map_err(|_| Damaged::DETAIL)?;
    let agrees = detail.standing.word() == word;
    let placement = placement_of(decky, detail, revision).ok_or(Damaged::DETAIL)?;
    match agrees && Lookups::of(&placement) == lookups {
        true => Ok(placement),
        false => Err(Damaged::DETAIL),
    }
}

/// Many placements, column by column. Lists within are texts with commas, for
/// an array holds no arrays; none of what is in them has one.
#[derive(Default)]
pub(super) struct ManyPlacements {
    decky: Vec<String>,
    standing: Vec<&'static str>,
    home: Vec<Option<String>>,
    address: Vec<Option<String>>,
    revision: Vec<i64>,
    homes: Vec<String>,
    addresses: Vec<String>,
    rows: Vec<String>,
    detail: Vec<Hidden>,
}

/// A text that no log of the client shows: decoys' settings hold passwords.
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[detail]")
    }
}

impl ToSql for Hidden {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        <String as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

impl ManyPlacements {
    /// Adds one; an error for what can't be written as JSON.
    pub(super) fn add(&mut self, placement: &Placement) -> Result<(), StoreError> {
        let detail = detail_of(placement);
        let json = serde_json::to_string(&detail)
            .map_err(|error| StoreError::not_committed("writing a placement", error))?;
        let Lookups { homes, addresses, rows } = Lookups::of(placement);
        let rows: Vec<String> = rows.into_iter().map(|id| uuid(id).to_string()).collect();
        self.decky.push(placement.decky.to_string());
        self.standing.push(detail.standing.word());
        self.home.push(placement.now().map(|placed| placed.home.key()));
        self.address.push(placement.now().map(|placed| placed.config.ip.to_string()));
        self.revision.push(signed(placement.revision));
        self.homes.push(homes.join(","));
        self.addresses.push(addresses.join(","));
        self.rows.push(rows.join(","));
        self.detail.push(Hidden(json));
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.decky.is_empty()
    }

    pub(super) fn whole(&self) -> [Param<'_>; 9] {
        [
            (&self.decky, Type::TEXT_ARRAY),
            (&self.standing, Type::TEXT_ARRAY),
            (&self.home, Type::TEXT_ARRAY),
            (&self.address, Type::TEXT_ARRAY),
            (&self.revision, Type::INT8_ARRAY),
            (&self.homes, Type::TEXT_ARRAY),
            (&self.addresses, Type::TEXT_ARRAY),
            (&self.rows, Type::TEXT_ARRAY),
            (&self.detail, Type::TEXT_ARRAY),
        ]
    }
}

/// Many deckies that the ends of rows took out of placements, column by column.
#[derive(Default)]
pub(super) struct ManySetAside {
    id: Vec<Uuid>,
    decky: Vec<String>,
    detail: Vec<Hidden>,
}

impl ManySetAside {
    pub(super) fn of(decision: &Decision) -> Result<Self, StoreError> {
        let mut all = Self::default();
        for (row, placed) in &decision.set_aside {
            let json = serde_json::to_string(&placed_form(placed))
                .map_err(|error| StoreError::not_committed("writing what is set aside", error))?;
            all.id.push(uuid(*row));
            all.decky.push(placed.config.name.to_string());
            all.detail.push(Hidden(json));
        }
        Ok(all)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    pub(super) fn whole(&self) -> [Param<'_>; 3] {
        [(&self.id, Type::UUID_ARRAY), (&self.decky, Type::TEXT_ARRAY), (&self.detail, Type::TEXT_ARRAY)]
    }
}

/// Reads what a row took out of its decky's placement: its id, the decky, and
/// the rest as JSON.
pub(super) fn set_aside(row: &Row) -> Result<(LifecycleId, Placed), StoreError> {
    let mut columns = Columns::of(row, 0);
    let mut read = || {
        let id = id_of(columns.next::<Uuid>("id")?);
        let decky = columns.name("decky", DeckyName::parse)?;
        let detail: &str = columns.next("detail")?;
        let form = serde_json::from_str(detail).map_err(|_| Damaged::DETAIL)?;
        Ok((id, placed_of(&decky, form).ok_or(Damaged::DETAIL)?))
    };
    let key = row.try_get::<_, Uuid>(0).map_or_else(|_| "?".to_owned(), |id| id.to_string());
    read().map_err(|damaged: Damaged| corrupt("set_aside", &key, &damaged))
}
