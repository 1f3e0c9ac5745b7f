//! Whose words are to be shown.

use std::str::FromStr;

use decnet_lifecycle::{DeckyName, ServiceName};

/// A decky, or one of its services: `decky-01`, `decky-01/ssh`.
#[derive(Debug, Clone)]
pub struct Speaker {
    pub decky: DeckyName,
    pub service: Option<ServiceName>,
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
    pub of: Speaker,
    /// Go on with what they say from now on
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines of each service, at most 10000
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    pub tail: usize,
}
