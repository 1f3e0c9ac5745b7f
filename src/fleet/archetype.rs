//! The kinds of machines that a decky can be made as.

/// A kind of machine: what it offers, and what it looks like.
///
/// ```
/// use decnet_lifecycle::fleet::Archetype;
///
/// let controller = Archetype::named("domain-controller").ok_or("there is one")?;
/// assert_eq!(controller.services, ["ldap", "smb", "rdp", "llmnr"]);
/// assert_eq!(Archetype::ALL.len(), 15);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archetype {
    /// What a fleet file calls it.
    pub slug: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// The services it offers.
    pub services: &'static [&'static str],
    /// The distributions its deckies take turns in.
    pub distros: &'static [&'static str],
    /// The operating system that its network stack looks like.
    pub nmap_os: &'static str,
    /// What it is, in a few words.
    pub description: &'static str,
}

impl Archetype {
    /// The original's, in its order.
    pub const ALL: &'static [Self] = &[
        Self {
            slug: "windows-workstation",
            name: "Windows Workstation",
            services: &["smb", "rdp"],
            distros: &["debian", "ubuntu22"],
            nmap_os: "windows",
            description: "office PC: file shares and remote desktop",
        },
        Self {
            slug: "windows-server",
            name: "Windows Server",
            services: &["smb", "rdp", "ldap"],
            distros: &["debian", "ubuntu22"],
            nmap_os: "windows_server",
            description: "member server of a Windows domain with a directory port",
        },
        Self {
            slug: "domain-controller",
            name: "Domain Controller",
            services: &["ldap", "smb", "rdp", "llmnr"],
            distros: &["debian", "ubuntu22"],
            nmap_os: "windows_server",
            description: "AD controller with directory, shares, remote desktop and name resolution",
        },
        Self {
            slug: "linux-server",
            name: "Linux Server",
            services: &["ssh", "http"],
            distros: &["debian", "ubuntu22", "rocky9", "fedora"],
            nmap_os: "linux",
            description: "ordinary Linux machine with a shell and a web page",
        },
        Self {
            slug: "web-server",
            name: "Web Server",
            services: &["http", "ftp"],
            distros: &["debian", "ubuntu22", "ubuntu20"],
            nmap_os: "linux",
            description: "host that publishes a site and takes uploads",
        },
        Self {
            slug: "database-server",
            name: "Database Server",
            services: &["mysql", "postgres", "redis"],
            distros: &["debian", "ubuntu22"],
            nmap_os: "linux",
            description: "machine of the data tier with three database engines",
        },
        Self {
            slug: "mail-server",
            name: "Mail Server",
            services: &["smtp", "pop3", "imap"],
            distros: &["debian", "ubuntu22"],
            nmap_os: "linux",
            description: "takes mail in and hands it out",
        },
        Self {
            slug: "file-server",
            name: "File Server",
            services: &["smb", "ftp", "ssh"],
            distros: &["debian", "ubuntu22", "rocky9"],
            nmap_os: "linux",
            description: "storage box reachable over three file protocols",
        },
        Self {
            slug: "printer",
            name: "Network Printer",
            services: &["snmp", "ftp"],
            distros: &["alpine", "debian"],
            nmap_os: "embedded",
            description: "printer in the network, managed over SNMP",
        },
        Self {
            slug: "iot-device",
            name: "IoT Device",
            services: &["mqtt", "snmp", "telnet"],
            distros: &["alpine"],
            nmap_os: "embedded",
            description: "small embedded device with a broker and a telnet login",
        },
        Self {
            slug: "industrial-control",
            name: "Industrial Control System",
            services: &["conpot", "snmp"],
            distros: &["debian"],
            nmap_os: "embedded",
            description: "plant controller (conpot) with SNMP",
        },
        Self {
            slug: "voip-server",
            name: "VoIP Server",
            services: &["sip"],
            distros: &["debian", "ubuntu22"],
            nmap_os: "linux",
            description: "telephone exchange or SIP gateway",
        },
        Self {
            slug: "monitoring-node",
            name: "Monitoring Node",
            services: &["snmp", "ssh"],
            distros: &["debian", "rocky9"],
            nmap_os: "linux",
            description: "host that watches the infrastructure",
        },
        Self {
            slug: "devops-host",
            name: "DevOps Host",
            services: &["docker_api", "ssh", "k8s"],
            distros: &["ubuntu22", "debian"],
            nmap_os: "linux",
            description: "build or container host with open management APIs",
        },
        Self {
            slug: "deaddeck",
            name: "Deaddeck (Entry Point)",
            services: &["ssh"],
            distros: &["debian", "ubuntu22"],
            nmap_os: "linux",
            description: "entry point facing the internet: SSH alone",
        },
    ];

    /// The one that a fleet file calls so.
    #[must_use]
    pub fn named(slug: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|archetype| archetype.slug == slug)
    }
}
