//! What an INI file has to know of the original's services.

/// The original's, which a file may ask for.
pub(super) const ORIGINAL: [&str; 28] = [
    "conpot",
    "dns",
    "docker_api",
    "elasticsearch",
    "ftp",
    "http",
    "https",
    "imap",
    "k8s",
    "ldap",
    "llmnr",
    "mongodb",
    "mqtt",
    "mssql",
    "mysql",
    "pop3",
    "postgres",
    "rdp",
    "redis",
    "sip",
    "smb",
    "smtp",
    "smtp_relay",
    "snmp",
    "ssh",
    "telnet",
    "tftp",
    "vnc",
];

/// One for a whole fleet: a section may hold settings of it, no decky has it.
pub(super) const FLEET_WIDE: &str = "sniffer";

/// Those that answer on the same port, of which one decky is given one at most
/// where its services are drawn.
pub(super) const SAME_PORT: [(&str, &str); 4] =
    [("conpot", "http"), ("conpot", "snmp"), ("http", "https"), ("smtp", "smtp_relay")];

/// The settings that are longer texts; the original's wizard encodes them.
const LONGER: [(&str, &str); 7] = [
    ("dns", "extra_records"),
    ("http", "custom_body"),
    ("http", "extra_headers"),
    ("https", "custom_body"),
    ("https", "extra_headers"),
    ("https", "tls_cert"),
    ("https", "tls_key"),
];

pub(super) fn is_longer_text(service: &str, key: &str) -> bool {
    LONGER.contains(&(service, key))
}
