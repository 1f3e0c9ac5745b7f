//! `pki`: a CA and bundles, in DECNET's file layout.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use decnet_lifecycle::{
    HostId,
    agent::{Fingerprint, Host, HostsFile, Pin},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use serde_json::json;

use crate::args::Pki;
use crate::files::write_new;
use crate::home::Home;
use crate::output::Output;
use crate::{Complaint, Done};

/// How long certificates are good for, from an hour before they are made.
const CA_DAYS: u64 = 3_650;
const BUNDLE_DAYS: u64 = 825;
/// Where the first worker on the same machine listens; the next take the
/// next ports.
const FIRST_PORT: u16 = 8_765;

pub fn pki(home: &Home, out: &Output, command: Pki) -> Result<Done, Complaint> {
    match command {
        Pki::Init { dir, san, local } => {
            let place = Place::new(home, dir)?;
            let mut names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            names.extend(san);
            // All that can be wrong is, before there is a CA.
            check_names(&names)?;
            if !local.is_empty() {
                home.make_root()?;
            }
            place.init()?;
            told(out, "master", &place, place.issue("master", names)?);
            let hosts = HostsFile::new(home.hosts_path());
            for (id, port) in local.into_iter().zip(FIRST_PORT..) {
                let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
                let fingerprint = place.issue(id.as_str(), names)?;
                told(out, id.as_str(), &place, fingerprint);
                let pin = Pin::Certificate(fingerprint);
                hosts.add(Host { id, address: format!("127.0.0.1:{port}"), pin })?;
            }
        }
        Pki::Issue { name, san, dir } => {
            let place = Place::new(home, dir)?;
            told(out, name.as_str(), &place, place.issue(name.as_str(), san)?);
        }
    }
    Ok(Done::Well)
}

/// The fingerprint of the certificate in a bundle of this host, if there is
/// one.
pub fn fingerprint_of(home: &Home, id: &HostId) -> Option<Fingerprint> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let path = home.pki_dir().join(id.as_str()).join("worker.crt");
    CertificateDer::from_pem_file(path).ok().map(|shown| Fingerprint::of(&shown))
}

fn told(out: &Output, name: &str, place: &Place, fingerprint: Fingerprint) {
    let bundle = place.dir.join(name);
    out.say(
        || json!({"event": "issued", "name": name, "bundle": bundle, "fingerprint": fingerprint}),
        || format!("{name}: bundle {}, fingerprint {fingerprint}", bundle.display()),
    );
}

/// Where the CA is, and the bundles that it issued.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(home: &Home, dir: Option<PathBuf>) -> Result<Self, Complaint> {
        match dir {
            Some(dir) => Ok(Self { dir }),
            None => {
                home.make_root()?;
                Ok(Self { dir: home.pki_dir() })
            }
        }
    }

    fn init(&self) -> Result<(), Complaint> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "DECNET CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for(&mut params, CA_DAYS);
        let certificate = params.self_signed(&key)?;
        make_dir(&self.dir)?;
        // The key first: whoever finds a certificate finds its key.
        write_new(&self.dir.join("ca.key"), &key.serialize_pem(), 0o600)?;
        write_new(&self.dir.join("ca.crt"), &certificate.pem(), 0o644)
    }

    /// Makes a bundle for this name, good for these names and addresses.
    fn issue(&self, name: &str, san: Vec<String>) -> Result<Fingerprint, Complaint> {
        let read = |file: &str| {
            let path = self.dir.join(file);
            fs::read_to_string(&path)
                .map_err(|error| Complaint(format!("{}: {error}; `pki init` makes a CA", path.display())))
        };
        let (ca_key, ca) = (read("ca.key")?, read("ca.crt")?);
        let unfit =
            |error: rcgen::Error| Complaint(format!("the CA in {} can't issue: {error}", self.dir.display()));
        let ca_key = KeyPair::from_pem(&ca_key).map_err(unfit)?;
        let issuer = Issuer::from_ca_cert_pem(&ca, ca_key).map_err(unfit)?;
        check_names(&san)?;
        let mut params = CertificateParams::new(san)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Each side calls, and is called.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, BUNDLE_DAYS);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let bundle = self.dir.join(name);
        if bundle.exists() {
            return Err(Complaint(format!(
                "{} is there already, and nothing is overwritten; move it away first",
                bundle.display()
            )));
        }
        make_dir(&bundle)?;
        write_new(&bundle.join("worker.key"), &key.serialize_pem(), 0o600)?;
        write_new(&bundle.join("worker.crt"), &certificate.pem(), 0o644)?;
        write_new(&bundle.join("ca.crt"), &ca, 0o644)?;
        Ok(Fingerprint::of(certificate.der()))
    }
}

fn check_names(names: &[String]) -> Result<(), Complaint> {
    match names.iter().find(|name| ServerName::try_from(name.as_str()).is_err()) {
        Some(odd) => Err(Complaint(format!("--san: {odd:?} is neither a DNS name nor an IP address"))),
        None => Ok(()),
    }
}

fn valid_for(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    // Clocks of a swarm differ a little.
    params.not_before = (now - Duration::from_secs(3_600)).into();
    params.not_after = (now + Duration::from_secs(days * 86_400)).into();
}

fn make_dir(path: &Path) -> Result<(), Complaint> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Complaint(format!("{}: {error}", path.display())))
}
