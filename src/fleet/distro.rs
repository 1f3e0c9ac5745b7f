//! The distributions that a decky can pretend to be.

/// A distribution: the images of its deckies, and how their host names look.
///
/// ```
/// use decnet_lifecycle::fleet::Distro;
///
/// let alpine = Distro::named("alpine").ok_or("there is one")?;
/// assert!(alpine.image.starts_with("alpine:3.19@sha256:"));
/// assert_eq!(Distro::ALL.len(), 9);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distro {
    /// What a fleet file calls it.
    pub slug: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// The image of a decky's base container.
    pub image: &'static str,
    /// The image that its services are built on.
    pub build_base: &'static str,
    pub(crate) hostnames: Hostnames,
}

/// How a distribution's host names look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hostnames {
    /// `SRV-ECHO-82`
    Server,
    /// `india25.localdomain`
    LocalDomain,
    /// `mike-36`
    WordAndNumber,
    /// `alpha-nova`
    TwoWords,
}

impl Distro {
    /// The original's, in its order.
    pub const ALL: &'static [Self] = &[
        Self {
            slug: "debian",
            name: "Debian 12 (Bookworm)",
            image: "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            build_base: "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            hostnames: Hostnames::Server,
        },
        Self {
            slug: "ubuntu22",
            name: "Ubuntu 22.04 LTS (Jammy)",
            image: "ubuntu:22.04@sha256:962f6cadeae0ea6284001009daa4cc9a8c37e75d1f5191cf0eb83fe565b63dd7",
            build_base: "ubuntu:22.04@sha256:962f6cadeae0ea6284001009daa4cc9a8c37e75d1f5191cf0eb83fe565b63dd7",
            hostnames: Hostnames::Server,
        },
        Self {
            slug: "ubuntu20",
            name: "Ubuntu 20.04 LTS (Focal)",
            image: "ubuntu:20.04@sha256:8feb4d8ca5354def3d8fce243717141ce31e2c428701f6682bd2fafe15388214",
            build_base: "ubuntu:20.04@sha256:8feb4d8ca5354def3d8fce243717141ce31e2c428701f6682bd2fafe15388214",
            hostnames: Hostnames::Server,
        },
        Self {
            slug: "rocky9",
            name: "Rocky Linux 9",
            image: "rockylinux:9-minimal@sha256:305de618a5681ff75b1d608fd22b10f362867dff2f550a4f1d427d21cd7f42b4",
            build_base: "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            hostnames: Hostnames::LocalDomain,
        },
        Self {
            slug: "centos7",
            name: "CentOS 7",
            image: "centos:7@sha256:be65f488b7764ad3638f236b7b515b3678369a5124c47b8d32916d6487418ea4",
            build_base: "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            hostnames: Hostnames::LocalDomain,
        },
        Self {
            slug: "alpine",
            name: "Alpine Linux 3.19",
            image: "alpine:3.19@sha256:6baf43584bcb78f2e5847d1de515f23499913ac9f12bdf834811a3145eb11ca1",
            build_base: "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            hostnames: Hostnames::WordAndNumber,
        },
        Self {
            slug: "fedora",
            name: "Fedora 39",
            image: "fedora:39@sha256:d63d63fe593749a5e8dbc8152427d40bbe0ece53d884e00e5f3b44859efa5077",
            build_base: "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            hostnames: Hostnames::LocalDomain,
        },
        Self {
            slug: "kali",
            name: "Kali Linux (Rolling)",
            image: "kalilinux/kali-rolling@sha256:1fd0364490011f245688c6ed9fee498a11cd779badfbb0b1d3a721d0f49f2d15",
            build_base: "kalilinux/kali-rolling@sha256:1fd0364490011f245688c6ed9fee498a11cd779badfbb0b1d3a721d0f49f2d15",
            hostnames: Hostnames::TwoWords,
        },
        Self {
            slug: "arch",
            name: "Arch Linux",
            image: "archlinux:latest@sha256:5ba8bb318666baef4d33afefc0e65db80f38b23503cb8e7b150d315cc2d4d5da",
            build_base: "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            hostnames: Hostnames::TwoWords,
        },
    ];

    /// The one that a fleet file calls so.
    #[must_use]
    pub fn named(slug: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|distro| distro.slug == slug)
    }
}
