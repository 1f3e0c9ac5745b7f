//! `host:port` of an agent or a master, taken apart.

use std::fmt;
use std::net::Ipv6Addr;

/// `host:port` of an agent or a master, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    /// A name or an IP address, without brackets.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

/// The text is not `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address; write host:port, such as 192.0.2.7:8765 or [2001:db8::7]:8765", self.0)
    }
}

impl<'a> Address<'a> {
    /// Takes `host:port` apart; an IPv6 address stands in brackets.
    pub(crate) fn parse(text: &'a str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.chars().take(100).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let is_word = |host: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.len() <= 253 && host.bytes().all(known)
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(bare) if bare.parse::<Ipv6Addr>().is_ok() => bare,
            None if is_word(host) => host,
            _ => return Err(wrong()),
        };
        if port == 0 { Err(wrong()) } else { Ok(Self { host, port }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("w1:8765", "w1", 8765),
            ("192.0.2.7:1", "192.0.2.7", 1),
            ("[2001:db8::7]:8765", "2001:db8::7", 8765),
        ] {
            assert_eq!(Address::parse(text), Ok(Address { host, port }));
        }
        for text in [
            "",
            ":",
            "w1",
            "w1:",
            "w1:0",
            "w1:99999",
            ":8765",
            "a/b:1",
            "a@b:1",
            "a b:1",
            "[::1:1",
            "::1:1",
            "[w1]:1",
            "w1:80\r\n",
            "w1:+1x",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }
}
