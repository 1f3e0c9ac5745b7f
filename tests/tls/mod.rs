//! A CA, bundles in DECNET's layout, and peers over TLS that do as they are
//! told.
#![allow(dead_code)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use decnet_lifecycle::agent::Fingerprint;
use decnet_lifecycle::agent::https::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longer than any call of these tests may take: who waits this long hangs.
pub const HANGS: Duration = Duration::from_secs(60);

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: tempfile::TempDir,
}

pub struct Bundle {
    pub dir: PathBuf,
    pub fingerprint: Fingerprint,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, dir: tempfile::tempdir().unwrap() }
    }

    pub fn issue(&self, name: &str, san: &str) -> Bundle {
        self.issue_with(name, san, |_| {})
    }

    pub fn issue_expired(&self, name: &str, san: &str) -> Bundle {
        self.issue_with(name, san, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn issue_with(&self, name: &str, san: &str, set: impl FnOnce(&mut CertificateParams)) -> Bundle {
        let mut params = CertificateParams::new(vec![san.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        set(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("ca.crt"), &self.pem).unwrap();
        fs::write(dir.join("worker.crt"), certificate.pem()).unwrap();
        fs::write(dir.join("worker.key"), key.serialize_pem()).unwrap();
        fs::set_permissions(dir.join("worker.key"), fs::Permissions::from_mode(0o600)).unwrap();
        Bundle { dir, fingerprint: Fingerprint::of(certificate.der()) }
    }
}

impl Bundle {
    pub fn identity(&self) -> Identity {
        Identity::load(&self.dir).unwrap()
    }

    pub fn server(&self) -> ServerConfig {
        self.identity().server_config().unwrap()
    }

    /// A server that speaks TLS 1.2 and no more.
    pub fn server_of_12(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = pem(&self.dir);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config
    }
}

type Pem = (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

pub fn pem(dir: &Path) -> Pem {
    use rustls::pki_types::pem::PemObject as _;
    let chain = rustls::pki_types::CertificateDer::pem_file_iter(dir.join("worker.crt")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(dir.join("worker.key")).unwrap();
    (chain.map(Result::unwrap).collect(), key)
}

pub type Tls = StreamOwned<ServerConnection, TcpStream>;

/// A peer on loopback; it lives as long as the test's process.
pub struct Peer {
    pub address: String,
    /// What came in over TLS, by connection.
    pub heard: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Something each time that a script has something to say.
    pub told: Receiver<u64>,
}

impl Peer {
    /// Does something with each connection, before any TLS.
    pub fn raw(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start(move |stream, _, _| script(stream))
    }

    /// Shakes hands, reads one request and does something then.
    pub fn tls(
        config: ServerConfig,
        script: impl Fn(&mut Tls, &dyn Fn(u64)) + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(config);
        Self::start(move |stream, heard, tell| {
            let conn = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(conn, stream);
            let mut bytes = [0; 4096];
            let place = {
                let mut heard = heard.lock().unwrap();
                heard.push(Vec::new());
                heard.len() - 1
            };
            while !is_whole(&heard.lock().unwrap()[place]) {
                match tls.read(&mut bytes) {
                    Ok(0) | Err(_) => return,
                    Ok(read) => heard.lock().unwrap()[place].extend_from_slice(&bytes[..read]),
                }
            }
            script(&mut tls, tell);
        })
    }

    /// Answers each request with these bytes.
    pub fn answering(config: ServerConfig, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::tls(config, move |tls, _| {
            let _ = tls.write_all(&answer);
            tls.conn.send_close_notify();
            let _ = tls.flush();
        })
    }

    fn start(script: impl Fn(TcpStream, &Mutex<Vec<Vec<u8>>>, &dyn Fn(u64)) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (tell, told) = channel();
        let (script, all) = (Arc::new(script), Arc::clone(&heard));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, heard, tell) = (Arc::clone(&script), Arc::clone(&all), tell.clone());
                std::thread::spawn(move || {
                    script(stream.unwrap(), &heard, &|word| tell.send(word).unwrap_or_default());
                });
            }
        });
        Self { address, heard, told }
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// How many bytes came in over TLS, over all connections.
    pub fn bytes_heard(&self) -> usize {
        self.heard.lock().unwrap().iter().map(Vec::len).sum()
    }
}

/// Whether a request is there with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// Runs something that may not hang, and gives what it gave.
pub fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = channel();
    std::thread::spawn(move || drop(done.send(work())));
    is_done.recv_timeout(HANGS).expect("it hangs, or has panicked")
}
