//! The compose engine's test sites on a real daemon: an image of busybox, a
//! project and a network each, and services that can be connected to.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use decnet_lifecycle::engine::compose::{
    Catalogue, ComposeEngine, ComposeSettings, DockerName, NetworkDriver,
};
use decnet_lifecycle::{store::MemoryStore, *};
use futures_lite::future::block_on;
use serde_json::{Value, json};

pub const IMAGE: &str = "decnet-lifecycle-test:busybox";

/// Makes the image that all deckies run, once.
pub fn is_ready() -> bool {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let ready = READY.get_or_init(|| {
        docker_says(&["version", "--format", "{{.Server.Version}}"])?;
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| std::path::Path::new(path).exists());
        let busybox = busybox.ok_or("no busybox to make an image of; install busybox-static")?;
        let root = tempfile::tempdir().map_err(|error| error.to_string())?;
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).map_err(|error| error.to_string())?;
        std::fs::copy(busybox, bin.join("busybox")).map_err(|error| error.to_string())?;
        for tool in ["sh", "sleep", "httpd", "echo", "false", "true", "kill"] {
            std::os::unix::fs::symlink("busybox", bin.join(tool)).map_err(|error| error.to_string())?;
        }
        let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output();
        let tar = tar.map_err(|error| error.to_string())?;
        let mut import = Command::new("docker")
            .args(["import", "-", IMAGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        import.stdin.take().unwrap().write_all(&tar.stdout).map_err(|error| error.to_string())?;
        import.wait().map_err(|error| error.to_string())?;
        docker_says(&["run", "--rm", IMAGE, "true"]).map(drop)
    });
    if let Err(why) = ready {
        assert!(std::env::var_os("DECNET_LIFECYCLE_NEED_DOCKER").is_none(), "Docker is needed here: {why}");
        eprintln!("\n!!! SKIPPED, no usable Docker: {why}\n");
    }
    ready.is_ok()
}

pub fn docker_says(args: &[&str]) -> Result<String, String> {
    let output: Output =
        Command::new("docker").args(args).output().map_err(|error| format!("docker: {error}"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The compose tool that this run is about.
pub fn tool() -> Option<PathBuf> {
    std::env::var_os("DECNET_LIFECYCLE_COMPOSE").map(PathBuf::from)
}

/// A project, a network and deckies that no other test has.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub name: String,
    /// The third part of its addresses.
    pub net: u8,
    pub settings: ComposeSettings,
    pub store: Arc<MemoryStore>,
}

impl Site {
    pub fn new(name: &str, net: u8) -> Self {
        let mut settings = ComposeSettings::default();
        settings.project = DockerName::parse(&format!("dl-{name}")).unwrap();
        settings.network = DockerName::parse(&format!("dl-{name}-lan")).unwrap();
        settings.driver = Some(NetworkDriver::Bridge);
        settings.program = tool();
        settings.settle = Duration::from_secs(1);
        settings.backoff = Duration::from_millis(10);
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
            name: name.to_owned(),
            net,
            settings,
            store: Arc::default(),
        };
        site.clean();
        std::fs::write(site.dir.path().join("catalogue.json"), catalogue().to_string()).unwrap();
        site
    }

    pub fn decky(&self, number: u8) -> DeckyName {
        DeckyName::parse(&format!("{}-{number}", self.name)).unwrap()
    }

    pub fn fleet(&self, services: &[&[&str]]) -> FleetConfig {
        let deckies: Vec<Value> = services.iter().zip(1..).map(|(services, number)| json!({
            "name": self.decky(number), "ip": format!("172.29.{}.{}", self.net, 10 + number), "services": services,
            "distro": "debian", "base_image": IMAGE, "hostname": format!("srv-{number}")})).collect();
        let fleet = json!({"mode": "unihost", "interface": "eth0", "subnet": format!("172.29.{}.0/24", self.net),
            "gateway": format!("172.29.{}.1", self.net), "deckies": deckies});
        FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
    }

    pub fn engine(&self) -> ComposeEngine {
        let own = Catalogue::builtin().with_json(catalogue().to_string().as_bytes()).unwrap();
        ComposeEngine::new(self.dir.path().join("compose")).settings(self.settings.clone()).catalogue(own)
    }

    pub fn runner(&self) -> Runner {
        let runner = Runner::builder(self.store.clone(), Arc::new(self.engine())).build();
        block_on(runner.unwrap().recover()).unwrap().0
    }

    /// When each container of the project was started, by name.
    pub fn started(&self) -> BTreeMap<String, String> {
        let containers = block_on(self.engine().running()).unwrap();
        let started =
            |name: &str| docker_says(&["inspect", "--format", "{{.State.StartedAt}}", name]).unwrap();
        containers.iter().map(|container| (container.name.clone(), started(&container.name))).collect()
    }

    /// Those of these ports of a decky that answer. Without the site's network
    /// whoever answers at its addresses is a stranger, such as a proxy.
    pub fn answering(&self, ip: IpAddr, ports: &[(&'static str, u16)]) -> Vec<&'static str> {
        if docker_says(&["network", "inspect", self.settings.network.as_str()]).is_err() {
            return Vec::new();
        }
        let answers = |port| TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(2));
        // Side by side, for where nobody is each takes as long as it may.
        std::thread::scope(|scope| {
            let asked: Vec<_> = ports
                .iter()
                .map(|(name, port)| (*name, scope.spawn(move || answers(*port).is_ok())))
                .collect();
            asked.into_iter().filter_map(|(name, asked)| asked.join().unwrap().then_some(name)).collect()
        })
    }

    pub fn clean(&self) {
        let filter = format!("label=com.docker.compose.project={}", self.settings.project);
        for id in docker_says(&["ps", "-aq", "--filter", &filter]).unwrap_or_default().lines() {
            let _ = docker_says(&["rm", "-f", id]);
        }
        let _ = docker_says(&["rm", "-f", &format!("{}-foreign", self.name)]);
        let _ = docker_says(&["network", "rm", self.settings.network.as_str()]);
    }

    /// The command line on this site.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decnet-lifecycle"));
        command.arg("--json").arg("--data").arg(self.dir.path().join("data")).args(args).stdin(Stdio::null());
        command
    }

    pub fn deploy(&self, fleet: &FleetConfig) -> Command {
        let path = self.dir.path().join("fleet.json");
        std::fs::write(&path, fleet.to_json()).unwrap();
        let mut command = self.command(&["deploy", "--engine", "compose", "--network-driver", "bridge"]);
        command.args([
            "--project",
            self.settings.project.as_str(),
            "--network",
            self.settings.network.as_str(),
        ]);
        if let Some(tool) = tool() {
            command.arg("--compose-program").arg(tool);
        }
        command.arg("--catalogue").arg(self.dir.path().join("catalogue.json")).arg(path);
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.clean();
    }
}

pub fn catalogue() -> Value {
    let httpd = |port: u16| json!({"image": IMAGE, "command": ["httpd", "-f", "-p", port.to_string()], "ports": [format!("{port}/tcp")]});
    json!({"services": {
        "ssh": httpd(22), "http": httpd(80), "redis": httpd(6379), "ftp": httpd(21),
        "gone": {"image": "dl.invalid/none:1"},
        "late": {"image": IMAGE, "command": ["sh", "-c", "sleep 3; exec httpd -f -p 81"], "ports": ["81/tcp"]},
        "talks": {"image": IMAGE, "command": ["sh", "-c", "echo one; echo two; echo three; exec sleep 1000"]},
        "deaf": {"image": IMAGE, "command": ["sleep", "1000"], "ports": ["82/tcp"]},
        "shaky": {"image": IMAGE, "ports": ["83/tcp"],
                  "command": ["sh", "-c", "if [ -e /tried ]; then exec httpd -f -p 83; fi; : > /tried; sleep 1; exit 1"]},
        "brief": {"image": IMAGE, "command": ["sh", "-c", "echo gave up, password=hunter2; exit 3"]},
        "sick": {"image": IMAGE, "command": ["sleep", "1000"],
                 "healthcheck": {"test": ["CMD", "false"], "interval": "1s", "retries": 1}}}})
}
