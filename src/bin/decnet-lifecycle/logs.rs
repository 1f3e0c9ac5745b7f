//! `logs`: what a decky's services have said.

use std::str::FromStr;
use std::sync::Arc;

use decnet_lifecycle::clock::SystemClock;
use decnet_lifecycle::engine::{LogLine, LogQuery};
use decnet_lifecycle::{DeckyName, ServiceName};
use serde_json::json;

use crate::engines::Chosen;
use crate::home::Home;
use crate::output::Output;
use crate::placed::looking;
use crate::{Complaint, Done};

/// A decky, or one of its services: `decky-01`, `decky-01/ssh`.
#[derive(Debug, Clone)]
pub struct Speaker {
    decky: DeckyName,
    service: Option<ServiceName>,
}

impl FromStr for Speaker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (decky, service) = match text.split_once('/') {
            Some((decky, service)) => (decky, Some(service)),
            None => (text, None),
        };
        let service = service.map(ServiceName::parse).transpose().map_err(|error| error.to_string())?;
        Ok(Self { decky: DeckyName::parse(decky).map_err(|error| error.to_string())?, service })
    }
}

#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The decky, or one of its services: decky-01 or decky-01/ssh
    #[arg(value_name = "DECKY[/SERVICE]")]
    of: Speaker,
    /// Go on with what they say from now on
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines of each service, at most 10000
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    tail: usize,
}

/// Looks beside whoever runs them: engines' logs lie on this machine, also
/// those of workers that have their files here.
pub async fn logs(home: &Home, out: &Output, args: Logs) -> Result<Done, Complaint> {
    let Speaker { decky, service } = args.of;
    let is_one = service.is_some();
    let query = LogQuery::new(decky, Arc::new(SystemClock::new()))
        .service(service)
        .tail(args.tail)
        .follow(args.follow);
    let hear = |line: LogLine| {
        let service = line.service.as_ref().map_or("-", ServiceName::as_str);
        out.say(
            || json!({"event": "log", "decky": line.decky, "service": line.service, "text": line.text}),
            || if is_one { line.text.clone() } else { format!("{service:<12} {}", line.text) },
        );
    };
    let mut why = None;
    for home in std::iter::once(home).chain(home.of_workers().iter()) {
        let store = home.store_to_look_at().await?;
        let chosen = Chosen::for_placed(home, &*store).await?;
        match looking(home, &chosen, store)?.logs(&query, &hear).await {
            Ok(()) => return Ok(Done::Well),
            Err(failure) => drop(why.get_or_insert(failure)),
        }
    }
    Err(Complaint(why.map(|failure| failure.message().to_owned()).unwrap_or_default()))
}
