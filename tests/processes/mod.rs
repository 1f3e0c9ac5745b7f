//! Masters and workers in processes of their own, on loopback, and plain
//! requests to them.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// Longer than anything here may take: who waits this long hangs.
pub const HANGS: Duration = Duration::from_secs(60);

/// A data directory. Decoys end once it is gone.
pub struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a PKI, and hosts on free ports.
    pub fn with_hosts(hosts: &[&str]) -> Self {
        let data = Self::new();
        data.ok(&["pki", "init"]);
        for (host, port) in hosts.iter().zip(free_ports(hosts.len())) {
            data.ok(&["pki", "issue", host, "--san", "127.0.0.1"]);
            data.ok(&["hosts", "add", host, "--address", &format!("127.0.0.1:{port}")]);
        }
        data
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decnet-lifecycle"));
        command.arg("--data").arg(self.dir.path()).args(args).stdin(Stdio::null());
        // Neither a bus nor a proxy of this machine is meant.
        command.env("DECNET_BUS_SOCKET", self.path("no-bus")).env_remove("DECNET_LIFECYCLE_DATA");
        for name in ["NATS_CA", "NATS_CREDS", "NATS_PASSWORD", "NATS_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command that must go well prints.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}\n{err}");
        out.into_owned()
    }

    /// A command that must end with this code; what it printed, and said besides.
    pub fn ends(&self, code: i32, args: &[&str]) -> (String, String) {
        let Output { status, stdout, stderr } = self.run(args);
        let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(status.code(), Some(code), "{args:?}\n{out}\n{err}");
        (out, err)
    }

    /// A file that holds this, and where it is.
    pub fn file(&self, name: &str, content: &serde_json::Value) -> String {
        let path = self.path(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What a command that must be refused says.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
        told
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.path("serve.token")).unwrap().trim().to_owned()
    }

    pub fn bundle(&self, name: &str) -> PathBuf {
        self.path("pki").join(name)
    }
}

/// Ports that nobody listens on, and that the kernel gives to nobody who asks
/// for any: a process that is killed needs its own again.
pub fn free_ports(count: usize) -> Vec<u16> {
    let any = std::iter::repeat_with(|| fastrand::u16(15_000..30_000));
    let held: Vec<_> =
        any.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// A command that stays, and has said that it is there.
pub struct Process {
    child: Child,
    /// What it said first.
    pub said: Value,
}

impl Process {
    pub fn start(data: &Data, args: &[&str]) -> Self {
        let log = if std::env::var_os("SHOW").is_some() { Stdio::inherit() } else { Stdio::null() };
        Self::spawn(data, args, log)
    }

    fn spawn(data: &Data, args: &[&str], log: Stdio) -> Self {
        let mut child =
            data.command(&[&["--json"], args].concat()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{args:?} did not start: {line:?}"));
        Self { child, said }
    }

    /// One whose log goes to a file.
    pub fn logging(data: &Data, args: &[&str], log: &Path) -> Self {
        Self::spawn(data, args, Stdio::from(std::fs::File::create(log).unwrap()))
    }

    pub fn master(data: &Data, more: &[&str]) -> Self {
        Self::start(data, &[&["serve", "--listen", "127.0.0.1:0", "--swarm", "127.0.0.1:0"], more].concat())
    }

    pub fn address(&self, what: &str) -> SocketAddr {
        self.said[what].as_str().unwrap_or_else(|| panic!("{}", self.said)).parse().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end, and gives its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Asks it to stop, and gives its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Sends a request in plain HTTP.
pub fn ask(address: SocketAddr, request: &str) -> Answer {
    try_ask(address, request).unwrap_or_else(|| panic!("no answer to {request}"))
}

/// Sends a request in plain HTTP; none if no answer came.
pub fn try_ask(address: SocketAddr, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(HANGS)).unwrap();
    // A server may answer before it has read all, and close.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Answer::parse(&answer)
}

/// Sends a request over mTLS with a bundle, or none; none if no answer came.
pub fn ask_tls(address: SocketAddr, ca: &Path, bundle: Option<&Path>, request: &str) -> Option<Answer> {
    let mut tls = tls_over(TcpStream::connect(address).ok()?, ca, bundle);
    tls.sock.set_read_timeout(Some(HANGS)).unwrap();
    let _ = tls.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer);
    Answer::parse(&answer)
}

pub fn connect_tls(
    address: SocketAddr,
    ca: &Path,
    bundle: Option<&Path>,
) -> StreamOwned<ClientConnection, TcpStream> {
    tls_over(TcpStream::connect(address).unwrap(), ca, bundle)
}

fn tls_over(stream: TcpStream, ca: &Path, bundle: Option<&Path>) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match bundle {
        Some(bundle) => {
            let chain = CertificateDer::pem_file_iter(bundle.join("worker.crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(bundle.join("worker.key")).unwrap();
            config.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let conn = ClientConnection::new(Arc::new(config), name).unwrap();
    stream.set_nodelay(true).unwrap();
    StreamOwned::new(conn, stream)
}
