//! What a master sends a worker's agent. Facts: the original's wire, as
//! observed; unknown fields beside the known ones count for nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::fleet::{FleetConfig, FleetError};
use crate::lifecycle::{DeckyName, LifecycleId, ServiceName};

/// Whether anything is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// Look whether it could be done, and do nothing.
    Yes,
    /// Do it.
    No,
}

/// `POST /deploy {config, dry_run, no_cache, lifecycle_ids?}`.
///
/// ```
/// use decnet_lifecycle::worker::DeployDispatch;
///
/// let error = DeployDispatch::from_json(b"{}").unwrap_err();
/// assert_eq!(error.problems()[0].field, "config");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DeployDispatch {
    /// The host's deckies; without named rows all that it is to have.
    pub config: FleetConfig,
    /// The rows of those to bring up; the original's master sends none, and
    /// means all.
    pub lifecycle_ids: BTreeMap<DeckyName, LifecycleId>,
    /// Whether to do it.
    pub dry_run: DryRun,
}

/// `POST /mutate {decky_id, services, dry_run, lifecycle_ids?}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutateDispatch {
    /// Which decky.
    pub decky: DeckyName,
    /// Its services from now on; none make it fail.
    pub services: Vec<ServiceName>,
    /// The row, if the master names one.
    pub lifecycle_id: Option<LifecycleId>,
    /// Whether to do it.
    pub dry_run: DryRun,
}

/// `POST /teardown {decky_id?, lifecycle_ids?}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeardownDispatch {
    /// Which decky; all if none.
    pub decky: Option<DeckyName>,
    /// The rows that the master names.
    pub lifecycle_ids: BTreeMap<DeckyName, LifecycleId>,
}

/// A body that is no dispatch: all that is wrong in it, for a 422.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyError(Vec<BodyProblem>);

/// One thing that is wrong in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyProblem {
    /// Where, as a path of fields; empty for the body as a whole.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl BodyError {
    /// All that is wrong.
    #[must_use]
    pub fn problems(&self) -> &[BodyProblem] {
        &self.0
    }

    /// As the original answers: `{"detail": [{"type", "loc", "msg"}]}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let one = |problem: &BodyProblem| {
            let path = problem.field.split('.').filter(|part| !part.is_empty());
            let loc: Vec<&str> = std::iter::once("body").chain(path).collect();
            serde_json::json!({"type": "value_error", "loc": loc, "msg": problem.message})
        };
        serde_json::json!({"detail": self.0.iter().map(one).collect::<Vec<_>>()})
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> =
            self.0.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
        f.write_str(&all.join("\n"))
    }
}

impl std::error::Error for BodyError {}

impl DeployDispatch {
    /// The most bytes of a dispatch: a fleet, and the ids beside it.
    pub const MAX_BYTES: usize = FleetConfig::MAX_BYTES + (2 << 20);

    /// Reads the body of `POST /deploy`.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BodyError> {
        let mut fields = Fields::read(bytes)?;
        let config = fields.value("config");
        let config = match config.map(FleetConfig::try_from) {
            Some(Ok(config)) => Some(config),
            Some(Err(error)) => fields.wrong_fleet(&error),
            None => fields.wrong("config", "it is missing; write the fleet of the host"),
        };
        let lifecycle_ids = fields.lifecycle_ids();
        let dry_run = fields.dry_run();
        if let Some(config) = &config
            && let Some(stranger) = lifecycle_ids.keys().find(|decky| config.decky(decky).is_none())
        {
            fields.wrong::<()>("lifecycle_ids", &format!("{stranger} is not in the config"));
        }
        fields.finish()?;
        let config = config.ok_or_else(|| BodyError(Vec::new()))?;
        Ok(Self { config, lifecycle_ids, dry_run })
    }
}

impl MutateDispatch {
    /// Reads the body of `POST /mutate`.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BodyError> {
        let mut fields = Fields::read(bytes)?;
        let decky = match fields.decky() {
            None => fields.wrong("decky_id", "it is missing; write the decky's name"),
            given => given,
        };
        let services = fields.services();
        let lifecycle_ids = fields.lifecycle_ids();
        let dry_run = fields.dry_run();
        fields.finish()?;
        let decky = decky.ok_or_else(|| BodyError(Vec::new()))?;
        let lifecycle_id = lifecycle_ids.get(&decky).copied();
        Ok(Self { decky, services, lifecycle_id, dry_run })
    }
}

impl TeardownDispatch {
    /// Reads the body of `POST /teardown`; an empty one means all deckies.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BodyError> {
        let mut fields = Fields::read(if bytes.is_empty() { b"{}" } else { bytes })?;
        let decky = fields.decky();
        let lifecycle_ids = fields.lifecycle_ids();
        fields.finish()?;
        Ok(Self { decky, lifecycle_ids })
    }
}

/// The fields of a body, and what was found wrong in them.
struct Fields {
    fields: Map<String, Value>,
    problems: Vec<BodyProblem>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Result<Self, BodyError> {
        let whole = |message: String| BodyError(vec![BodyProblem { field: String::new(), message }]);
        let most = DeployDispatch::MAX_BYTES;
        if bytes.len() > most {
            return Err(whole(format!("it has {} bytes, a dispatch has at most {most}", bytes.len())));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self { fields, problems: Vec::new() }),
            Ok(_) => Err(whole("it is no JSON object".to_owned())),
            Err(error) => Err(whole(format!("it is no JSON: {error}"))),
        }
    }

    /// A field that is there and not null.
    fn value(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    fn wrong<T>(&mut self, field: &str, message: &str) -> Option<T> {
        self.problems.push(BodyProblem { field: field.to_owned(), message: message.to_owned() });
        None
    }

    fn wrong_fleet<T>(&mut self, error: &FleetError) -> Option<T> {
        match error {
            FleetError::Invalid(problems) => {
                for problem in problems.list() {
                    let field = format!("config.{}", problem.path);
                    self.wrong::<()>(&field, &format!("{}; {}", problem.what, problem.hint));
                }
            }
            other => {
                self.wrong::<()>("config", &other.to_string());
            }
        }
        None
    }

    fn decky(&mut self) -> Option<DeckyName> {
        match self.value("decky_id")? {
            Value::String(name) => match DeckyName::parse(&name) {
                Ok(decky) => Some(decky),
                Err(error) => self.wrong("decky_id", &error.to_string()),
            },
            _ => self.wrong("decky_id", "it is no text; write the decky's name"),
        }
    }

    fn services(&mut self) -> Vec<ServiceName> {
        let Some(value) = self.value("services") else {
            return self.wrong("services", "it is missing; write a list of services").unwrap_or_default();
        };
        let parsed: Option<Result<Vec<_>, _>> = value.as_array().map(|services| {
            services.iter().map(|service| ServiceName::parse(service.as_str().unwrap_or_default())).collect()
        });
        match parsed {
            Some(Ok(services)) => services,
            Some(Err(error)) => self.wrong("services", &error.to_string()).unwrap_or_default(),
            None => self.wrong("services", "it is no list; write a list of services").unwrap_or_default(),
        }
    }

    fn lifecycle_ids(&mut self) -> BTreeMap<DeckyName, LifecycleId> {
        let Some(value) = self.value("lifecycle_ids") else { return BTreeMap::new() };
        match serde_json::from_value(value) {
            Ok(ids) => ids,
            Err(error) => self.wrong("lifecycle_ids", &error.to_string()).unwrap_or_default(),
        }
    }

    fn dry_run(&mut self) -> DryRun {
        match self.value("dry_run") {
            None | Some(Value::Bool(false)) => DryRun::No,
            Some(Value::Bool(true)) => DryRun::Yes,
            Some(_) => self.wrong("dry_run", "it is neither true nor false").unwrap_or(DryRun::Yes),
        }
    }

    fn finish(self) -> Result<(), BodyError> {
        if self.problems.is_empty() { Ok(()) } else { Err(BodyError(self.problems)) }
    }
}
