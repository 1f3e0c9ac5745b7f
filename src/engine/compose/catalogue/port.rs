//! A port that a service should answer on.

use serde::Deserialize;

/// Written such as `22/tcp`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl TryFrom<String> for Port {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no port; write such as \"22/tcp\" or \"161/udp\"");
        let (number, protocol) = text.split_once('/').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong()),
        };
        match number.parse() {
            Ok(number @ 1..) => Ok(Self { number, protocol }),
            _ => Err(wrong()),
        }
    }
}
