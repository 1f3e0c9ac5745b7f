//! A real server that the test starts, kills and looks into.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::processes::{HANGS, free_ports};

/// Kills the server when the test is over, however it ends.
const KEEPER: &str = r#""$1" -c "$2" >"$3" 2>&1 </dev/null & read -r _; kill -9 $!; wait $! 2>/dev/null"#;

pub struct Server {
    program: PathBuf,
    pub dir: tempfile::TempDir,
    pub port: u16,
    keeper: Option<Child>,
}

/// That which DECNET_LIFECYCLE_NATS_SERVER names, else the machine's own.
fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("DECNET_LIFECYCLE_NATS_SERVER") {
        return Some(path.into());
    }
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&in_path).chain(["/usr/sbin".into()]);
    let found = dirs.map(|dir| dir.join("nats-server")).find(|path| path.is_file());
    if found.is_none() {
        // Past the harness, which keeps what a test that passes prints.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: there is no nats-server; install it (Debian: nats-server)");
        assert!(std::env::var_os("DECNET_LIFECYCLE_NEED_NATS").is_none(), "nats-server is needed");
    }
    found
}

/// With JetStream, whom everybody may use.
pub const OPEN: &str = "jetstream { store_dir: \"DIR\" }";

impl Server {
    /// Starts one with these settings, in which DIR is a folder of its own.
    pub fn start(config: &str) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1)[0];
        let config = config.replace("DIR", dir.path().to_str().unwrap());
        std::fs::write(dir.path().join("config"), format!("listen: \"127.0.0.1:{port}\"\n{config}\n"))
            .unwrap();
        let mut server = Self { program, dir, port, keeper: None };
        server.start_again();
        Some(server)
    }

    pub fn start_again(&mut self) {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&self.program);
        keeper.arg(self.dir.path().join("config")).arg(self.log());
        // What ends this process and its group is not to reach it: it has to clear up.
        keeper.process_group(0);
        self.keeper = Some(keeper.stdin(Stdio::piped()).spawn().unwrap());
        let end = Instant::now() + HANGS;
        while !self.greets() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(Instant::now() < end && !log.contains("[FTL]"), "the server does not start: {log}");
            std::thread::yield_now();
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn greets(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        stream.set_read_timeout(Some(HANGS)).unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).is_ok() && word == *b"INFO"
    }

    pub fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Somebody else who speaks with it.
    pub fn client(&self) -> Client {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap(), "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A plain client, which trusts the server.
pub struct Client {
    stream: BufReader<TcpStream>,
    requests: u64,
}

impl Client {
    pub fn new(stream: TcpStream, credentials: &str) -> Self {
        stream.set_read_timeout(Some(HANGS)).unwrap();
        let mut client = Self { stream: BufReader::new(stream), requests: 0 };
        assert!(client.line().starts_with("INFO "));
        client.say(&format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true{credentials}}}\r\nSUB _T.* 1\r\nPING\r\n"
        ));
        assert_eq!(client.line(), "PONG");
        client
    }

    fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn subscribe(&mut self, subject: &str) {
        self.say(&format!("SUB {subject} 2\r\nPING\r\n"));
        assert_eq!(self.line(), "PONG");
    }

    /// The next message: its subject and what it says.
    pub fn next(&mut self) -> (String, String) {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["MSG" | "HMSG", subject, .., length] => {
                    let mut body = vec![0; length.parse::<usize>().unwrap() + 2];
                    self.stream.read_exact(&mut body).unwrap();
                    body.truncate(body.len() - 2);
                    return ((*subject).to_owned(), String::from_utf8(body).unwrap());
                }
                ["PING"] => self.say("PONG\r\n"),
                _ => panic!("{line:?}"),
            }
        }
    }

    pub fn publish(&mut self, subject: &str, body: &str) {
        self.say(&format!("PUB {subject} {}\r\n{body}\r\nPING\r\n", body.len()));
        assert_eq!(self.line(), "PONG");
    }

    fn api(&mut self, what: &str, body: &Value) -> Value {
        self.requests += 1;
        let (body, number) = (body.to_string(), self.requests);
        self.say(&format!("PUB $JS.API.{what} _T.{number} {}\r\n{body}\r\n", body.len()));
        serde_json::from_str(&self.next().1).unwrap()
    }

    pub fn ask(&mut self, what: &str, body: Value) -> Value {
        let said = self.api(what, &body);
        assert!(said.get("error").is_none(), "{what}: {said}");
        said
    }

    /// Makes the stream S for what a mirror says.
    pub fn make_stream(&mut self, with: Value) {
        let mut config = json!({"name": "S", "subjects": ["decnet.feed.>"], "storage": "file", "retention": "limits",
            "discard": "old", "num_replicas": 1, "max_age": 0, "max_msgs": -1, "max_bytes": -1, "max_consumers": -1});
        for (key, value) in with.as_object().unwrap() {
            config[key] = value.clone();
        }
        self.ask("STREAM.CREATE.S", config);
    }

    /// All that the stream holds: sequence, subject, message.
    pub fn held(&mut self) -> Vec<(u64, String, Value)> {
        let info = self.ask("STREAM.INFO.S", json!({}));
        let number = |name: &str| info["state"][name].as_u64().unwrap();
        let mut held = Vec::new();
        for sequence in number("first_seq").max(1)..=number("last_seq") {
            let got = self.api("STREAM.MSG.GET.S", &json!({"seq": sequence}));
            let Some(message) = got.get("message") else { continue };
            let data = STANDARD.decode(message["data"].as_str().unwrap()).unwrap();
            let subject = message["subject"].as_str().unwrap().to_owned();
            held.push((sequence, subject, serde_json::from_slice(&data).unwrap()));
        }
        held
    }

    /// The revisions of what it holds, in its order.
    pub fn revisions(&mut self) -> Vec<u64> {
        self.held().iter().map(|(_, _, message)| message["revision"].as_u64().unwrap()).collect()
    }
}

/// A file that only its owner reads.
pub fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
