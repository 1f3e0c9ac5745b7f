//! A swarm over TLS: dispatch to many agents, many beats to one master.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use decnet_lifecycle::agent::https::{HttpsAgents, Identity};
use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::{
    agent::{Host, Pin, StaticHosts},
    beat::{Beat, Verdict},
    store::RedbStore,
    *,
};
use futures_lite::future::block_on;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, StreamOwned};

use super::deploy::fleet;
use super::{micros, rate, timed};

const PROGRAM: &str = env!("CARGO_BIN_EXE_decnet-lifecycle");
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

pub fn report(quick: bool) {
    println!("## Swarm\n");
    let data = tempfile::tempdir().unwrap();
    let hosts = if quick { 20 } else { 1_000 };
    pki(data.path(), hosts);
    dispatch(data.path(), quick);
    one_commit();
    beats(data.path(), hosts, quick);
}

fn run(data: &std::path::Path, args: &[&str]) {
    let done = Command::new(PROGRAM).arg("--data").arg(data).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A PKI with this many workers, all on this machine.
fn pki(data: &std::path::Path, hosts: usize) {
    let names: Vec<String> = (0..hosts).map(|host| format!("w{host}")).collect();
    run(data, &["pki", "init", "--local", &names.join(",")]);
}

/// From the request until every agent has answered, each over a connection,
/// handshake and pin check of its own.
fn dispatch(data: &std::path::Path, quick: bool) {
    println!(
        "Dispatch over mTLS: from the request until every agent has answered, on redb; each takes 50 ms.\n"
    );
    println!("| agents | time | over one agent's |\n|---:|---:|---:|");
    let identity = Identity::load(&data.join("pki/w0")).unwrap();
    let config = Arc::new(identity.server_config().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || agent(ServerConnection::new(config).unwrap(), stream));
        }
    });
    let mut one = None;
    let sizes: &[usize] = if quick { &[1, 10] } else { &[1, 10, 100, 200] };
    for size in sizes {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let hosts = (0..*size).map(|host| Host {
                id: HostId::parse(&format!("w{host}")).unwrap(),
                address: address.clone(),
                pin: Pin::Certificate(identity.fingerprint()),
            });
            let dir = tempfile::tempdir().unwrap();
            let store = Arc::new(RedbStore::open(dir.path().join("s.redb")).unwrap());
            let master = Identity::load(&data.join("pki/master")).unwrap();
            let runner = Runner::builder(store, Arc::new(FakeEngine::new()))
                .swarm(Arc::new(HttpsAgents::new(master)), Arc::new(StaticHosts::new(hosts)))
                .build()
                .unwrap();
            let (runner, _) = block_on(runner.recover()).unwrap();
            let request = DeployRequest::new(fleet(*size, *size));
            let (time, ids) = timed(|| {
                block_on(async {
                    let accepted = runner.accept_deploy(request).await.unwrap();
                    let ids: Vec<_> = accepted.ids().values().copied().collect();
                    accepted.run().await;
                    ids
                })
            });
            let rows = block_on(runner.get(&ids)).unwrap();
            assert!(rows.iter().all(|row| row.status() == Status::Running), "an agent was not reached");
            best = best.min(time);
        }
        let first = *one.get_or_insert(best);
        println!("| {size} | {} | {:.1} |", micros(best), best.as_secs_f64() / first.as_secs_f64());
    }
    println!("\nThe best of three. The original asks one after the other: 104 for 100 agents.\n");
}

fn agent(conn: ServerConnection, stream: TcpStream) {
    let mut tls = StreamOwned::new(conn, stream);
    let mut bytes = vec![0; 16 << 10];
    let mut heard = Vec::new();
    while !heard.ends_with(b"}") {
        match tls.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => heard.extend_from_slice(&bytes[..count]),
        }
    }
    std::thread::sleep(Duration::from_millis(50));
    let _ = tls.write_all(ACCEPTED);
    tls.conn.send_close_notify();
    let _ = tls.flush();
}

/// A beat of as many deltas as there may be, and how many commits it takes.
fn one_commit() {
    let size = Beat::MAX_DELTAS;
    let hosts = [Host { id: HostId::parse("w0").unwrap(), address: "w0:1".into(), pin: Pin::CaOnly }];
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(dir.path().join("s.redb")).unwrap());
    let runner = Runner::builder(store, Arc::new(FakeEngine::new()))
        .swarm(Arc::new(testkit::FakeAgents::new()), Arc::new(StaticHosts::new(hosts)))
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet(size, 1)))).unwrap();
    let deltas: Vec<String> = accepted
        .ids()
        .iter()
        .map(|(decky, id)| {
            format!(r#"{{"decky_name":"{decky}","operation":"deploy","status":"succeeded","lifecycle_id":"{id}"}}"#)
        })
        .collect();
    block_on(accepted.run());
    let body = format!(r#"{{"host_uuid":"w0","open_rows":[],"lifecycle":[{}]}}"#, deltas.join(","));
    let before = runner.counters();
    let host = HostId::parse("w0").unwrap();
    let (time, answer) = timed(|| {
        let beat = Beat::from_json(body.as_bytes()).unwrap();
        block_on(runner.take_beat(&host, &beat)).unwrap()
    });
    assert!(answer.verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
    let after = runner.counters();
    println!(
        "A beat of {size} deltas: {} steps in {} commit(s), {} from its bytes to its verdicts.\n",
        after.steps - before.steps,
        after.commits - before.commits,
        micros(time)
    );
}

/// Beats of many hosts to a master in a process of its own, each over a
/// connection of its own, as workers send them.
fn beats(data: &std::path::Path, hosts: usize, quick: bool) {
    let mut master = Command::new(PROGRAM)
        .arg("--data")
        .arg(data)
        .args(["--json", "serve", "--listen", "127.0.0.1:0", "--swarm", "127.0.0.1:0", "--engine", "process"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(master.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let address: SocketAddr = said["swarm"].as_str().unwrap().parse().unwrap();
    let clients: Vec<(String, Arc<ClientConfig>)> = (0..hosts)
        .map(|host| (format!("w{host}"), client(&data.join("pki").join(format!("w{host}")))))
        .collect();

    let idle = memory(&master);
    let (cpu, total) = (cpu(&master), if quick { hosts } else { 10 * hosts });
    let next = AtomicUsize::new(0);
    let (time, ()) = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    loop {
                        let beat = next.fetch_add(1, Ordering::Relaxed);
                        if beat >= total {
                            return;
                        }
                        let (host, config) = &clients[beat % hosts];
                        send(address, host, config);
                    }
                });
            }
        });
    });
    let used = self::cpu(&master) - cpu;
    println!(
        "{total} beats from {hosts} hosts, each over a connection and handshake of its own, senders and master on the \
         same cores: {} beats/s. The master's own part is {} of CPU a beat, that is {:.0}% of one core for 1,000 beats a \
         second; its memory was {} MiB before and {} MiB after.\n",
        rate(total, time),
        micros(used / u32::try_from(total).unwrap()),
        used.as_secs_f64() / total as f64 * 1_000.0 * 100.0,
        idle >> 20,
        memory(&master) >> 20
    );
    master.kill().unwrap();
    master.wait().unwrap();
}

fn client(bundle: &std::path::Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(bundle.join("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(bundle.join("worker.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(bundle.join("worker.key")).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

fn send(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) {
    let body = format!(
        r#"{{"host_uuid":"{host}","agent_version":"1","status":{{"deployed":false,"deckies":[]}},"open_rows":[]}}"#
    );
    let conn = ClientConnection::new(Arc::clone(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    // As the worker's own client does.
    stream.set_nodelay(true).unwrap();
    let mut tls = StreamOwned::new(conn, stream);
    let request = format!(
        "POST /swarm/heartbeat HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tls.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// Bytes of a process that are in memory.
fn memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// The processor time that a process has used.
fn cpu(child: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // After the name in brackets: user and system ticks are the 12th and 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
