//! Every command, on the built program, with decoys that are connected to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet.json");

/// A data directory; its decoys are torn down at the end.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decnet-lifecycle"));
        command.arg("--data").arg(self.dir.path()).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must end with this code, and gives its lines.
    fn lines(&self, code: i32, args: &[&str]) -> Vec<String> {
        let output = self.run(args);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        out.lines().map(str::to_owned).collect()
    }

    fn json(&self, code: i32, args: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = [&["--json"], args].concat();
        self.lines(code, &args).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What a command that must be refused says.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
        told
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a decky's service listens, as `ls` shows it.
    fn port(&self, decky: &str, service: &str) -> Option<SocketAddr> {
        let row = self.json(0, &["ls", "--decky", decky]).remove(0);
        row["decoys"][service].as_str().map(|addr| addr.parse().unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.run(&["teardown", "--yes", "--wait", "--supersede"]);
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn first_line(addr: SocketAddr, say: &str) -> String {
    let mut stream = connect(addr);
    stream.write_all(say.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_fleet_is_deployed_seen_changed_and_taken_down() {
    let home = Home::new();
    let shown = home.lines(0, &["deploy", FLEET]).join("\n");
    assert!(shown.contains("6 succeeded, 0 failed; 18 decoys are running"), "{shown}");
    let rows = home.json(0, &["ls"]);
    assert_eq!(rows.len(), 6);
    assert!(
        rows.iter().all(|row| row["status"] == "succeeded" && row["decoys"].as_object().unwrap().len() == 3)
    );
    assert!(rows.windows(2).all(|pair| pair[0]["id"].as_str() > pair[1]["id"].as_str()));

    let port = |decky, service| home.port(decky, service).unwrap();
    assert!(first_line(port("decky-01", "ssh"), "").starts_with("SSH-2.0-OpenSSH"));
    assert!(first_line(port("decky-01", "ftp"), "").starts_with("220 srv-web-01"));
    assert!(first_line(port("decky-02", "smtp"), "").starts_with("220 mail-relay ESMTP"));
    assert_eq!(first_line(port("decky-02", "redis"), "PING\r\n"), "+PONG\r\n");
    assert!(
        first_line(port("decky-01", "http"), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .starts_with("HTTP/1.1 200 OK")
    );
    let mut telnet = connect(port("decky-03", "telnet"));
    let mut greeting = [0; 9];
    telnet.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting[0], 255);

    let kept = port("decky-01", "ssh");
    home.lines(0, &["mutate", "decky-01", "--services", "ssh,redis"]);
    assert_eq!(port("decky-01", "ssh"), kept, "a service that stays was restarted");
    assert!(port("decky-01", "redis").port() > 0 && home.port("decky-01", "http").is_none());

    let id = rows[5]["id"].as_str().unwrap();
    let show = &home.json(0, &["show", id])[0];
    assert_eq!(show["history"].as_array().unwrap().len(), 3);
    assert!(home.lines(0, &["show", id]).join("\n").contains("succeeded"));
    // By its decky, of which the newest row is meant, and by the end of its id.
    let by = |words: &str| home.json(0, &["show", words])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(by(&id[id.len() - 8..]), id);
    let decky = show["decky"].as_str().unwrap();
    let newest = home.json(0, &["ls", "--decky", decky])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(by(decky), newest);
    assert!(home.refused(&["cancel", "ffff0000ffff"]).contains("none whose id ends so"));
    assert_eq!(home.json(0, &["wait", decky, &id[id.len() - 8..]]).len(), 2);
    assert_eq!(home.json(0, &["wait", "--timeout", "1s"]).len(), 0);
    assert_eq!(home.json(0, &["ls", "--decky", "decky-01"]).len(), 2);
    assert_eq!(home.json(0, &["ls", "--status", "failed"]).len(), 0);
    assert_eq!(home.json(0, &["ls", "--open"]).len(), 0);
    assert_eq!(home.json(0, &["export"]).len(), 7);
    assert_eq!(home.json(0, &["cancel", id])[0]["outcome"], "closed");
    assert_eq!(home.json(0, &["sweep"])[0]["failed"], 0);

    let log = std::fs::read_to_string(home.path("decoys/decky-02.redis.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["event"] == "input" && line["input"] == "PING"), "{log}");

    home.lines(0, &["teardown", "decky-02"]);
    assert!(home.port("decky-02", "ssh").is_none() && home.port("decky-03", "http").is_some());
    let end = home.json(0, &["teardown", "--yes"]).pop().unwrap();
    assert_eq!((&end["succeeded"], &end["decoys"]), (&Value::from(5), &Value::from(0)));
    let pruned = &home.json(0, &["prune", "--older-than", "0s"])[0];
    assert_eq!(pruned["rows"], 13);
    assert_eq!(home.lines(0, &["ls"]), ["no rows"]);
}

#[test]
fn an_ini_fleet_is_read_by_the_ending_of_its_name() {
    let home = Home::new();
    let net = "[general]\nnet=10.66.0.0/24\ngw=10.66.0.1\ninterface=lo\n";
    let text = format!("{net}[DC01]\nservices=ssh\n[web]\namount=2\nservices=http\n[nobody.ftp]\nbanner=x\n");
    let fleet = home.file("fleet.INI", &text);
    let output = home.run(&["deploy", "--engine", "process", &fleet]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("fleet.INI: line 10, [nobody.ftp]: there is no decky nobody"), "{told}");
    assert!(first_line(home.port("DC01", "ssh").unwrap(), "").starts_with("SSH-2.0-OpenSSH"));
    let names: Vec<String> =
        home.json(0, &["ls"]).iter().map(|row| row["decky"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    home.lines(0, &["mutate", "DC01", "--services", "ftp"]);
    home.lines(0, &["teardown", "DC01"]);

    let compose = home.lines(0, &["compose-file", &fleet]).join("\n");
    assert!(compose.contains("\"web-02-http\"") && compose.contains("decnet-dc01-ssh-"), "{compose}");
    // The same each time on the same machine.
    assert_eq!(home.lines(0, &["compose-file", &fleet]).join("\n"), compose);
    let own = home.file("own.json", r#"{"services": {"gopher": {"image": "gopher:1"}}}"#);
    let gopher = home.file("gopher.ini", &format!("{net}[decky]\nservices=gopher\n[decky.gopher]\nmotd=x\n"));
    let output = home.run(&["compose-file", "--catalogue", &own, &gopher]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && told.contains("note: deckies[0].services[0]: service_config.gopher.motd:"),
        "{told}"
    );
    assert!(
        home.refused(&["compose-file", &gopher])
            .contains("line 6, [decky] services: there is no service gopher")
    );

    let broken = home.file("broken.ini", &format!("{net}[a]\nservices=ssh\n [b]\n"));
    assert!(home.refused(&["deploy", &broken]).contains("broken.ini: line 7, [a]: it is indented"));
    // Under another name it is no INI file, and that is told.
    let other = home.file("fleet.txt", &text);
    assert!(home.refused(&["doctor", &other]).contains("a fleet in INI form has a name that ends in .ini"));
}

#[test]
fn a_service_that_nobody_has_defined_is_refused_and_one_that_died_is_shown() {
    let home = Home::new();
    let fleet = std::fs::read_to_string(FLEET).unwrap();
    let wrong = home.file("wrong.json", &fleet.replace("\"smtp\"", "\"ssmtp\""));
    let told = home.refused(&["deploy", &wrong]);
    assert!(told.contains("nobody has defined the service ssmtp; did you mean smtp?"), "{told}");
    home.lines(0, &["deploy", FLEET, "--only", "decky-01"]);
    let told = home.refused(&["mutate", "decky-01", "--services", "ssh,redsi"]);
    assert!(told.contains("nobody has defined the service redsi; did you mean redis?"), "{told}");

    let ready = std::fs::read(home.path("decoys/decky-01.ssh.ready")).unwrap();
    let pid = serde_json::from_slice::<Value>(&ready).unwrap()["pid"].to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let shown = || home.lines(0, &["ls", "--decky", "decky-01"]).join("\n");
    while !shown().contains("ssh=dead") {
        std::thread::yield_now();
    }
    let end = home.json(0, &["deploy", FLEET, "--only", "decky-02"]).pop().unwrap();
    assert_eq!(end["decoys"], 5);
    home.lines(0, &["teardown", "--yes"]);
}

#[test]
fn a_key_does_it_once_and_decoys_are_found_again() {
    let home = Home::new();
    home.lines(0, &["deploy", FLEET, "--only", "decky-01,decky-02", "--key", "first"]);
    let before = home.port("decky-01", "ssh");
    home.lines(0, &["deploy", FLEET, "--only", "decky-01,decky-02", "--key", "first"]);
    assert_eq!(home.json(0, &["ls"]).len(), 2);
    assert!(home.refused(&["deploy", FLEET, "--only", "decky-03", "--key", "first"]).contains("used before"));
    // Another process finds them alive and keeps them.
    home.lines(0, &["deploy", FLEET, "--only", "decky-01"]);
    assert_eq!(home.port("decky-01", "ssh"), before);
}

#[test]
fn a_decky_that_cannot_come_up_fails_its_row_only() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut fleet: Value = serde_json::from_str(&std::fs::read_to_string(FLEET).unwrap()).unwrap();
    fleet["deckies"][0]["service_config"] = serde_json::json!({"http": {"port": port}});
    let path = home.file("fleet.json", &fleet.to_string());
    let shown = home.json(1, &["deploy", &path, "--only", "decky-01,decky-02"]);
    let end = shown.last().unwrap();
    assert_eq!((&end["succeeded"], &end["failed"], &end["decoys"]), (&1.into(), &1.into(), &3.into()));
    let row = home.json(0, &["ls", "--status", "failed"]).remove(0);
    let error = row["error"].as_str().unwrap();
    assert!(error.contains("http") && error.contains("is the port in use?"), "{error}");
    drop(taken);
    // The same deploy again converges.
    home.lines(0, &["deploy", &path, "--only", "decky-01,decky-02"]);
    assert_eq!(home.port("decky-01", "http").unwrap().port(), port);
}

#[test]
fn bad_input_is_told_with_a_hint_and_nothing_is_lost() {
    let home = Home::new();
    assert!(home.refused(&["ls"]).contains("there is no store at"));
    assert!(home.refused(&["deploy", "/no/such/fleet.json"]).contains("No such file"));
    let bad = home.file("bad.json", "{\"mode\": \"unihost\",");
    assert!(home.refused(&["deploy", &bad]).contains("is it the right file, and complete?"));
    let empty = home.file("empty.json", "{}");
    let told = home.refused(&["deploy", &empty]);
    for field in ["mode", "interface", "subnet", "gateway", "deckies"] {
        assert!(told.contains(&format!("{field}: it is missing")), "{told}");
    }
    assert!(!home.path("lifecycle.redb").exists(), "a refused deploy made a store");
    assert!(home.refused(&["deploy", FLEET, "--only", "nobody"]).contains("has no decky nobody"));
    assert!(
        home.refused(&["mutate", "decky-01", "--services", "ssh"]).contains("there is no decky decky-01")
    );
    assert!(home.refused(&["show", "00000000-0000-7000-8000-000000000000"]).contains("there is no row"));
    assert!(home.refused(&["show", "x"]).contains("there is no row of a decky x"));
    assert!(home.refused(&["show", "so/so"]).contains("a row is named by its decky"));
    assert!(home.refused(&["ls", "--status", "odd"]).contains("pending, running, succeeded or failed"));
    assert!(home.refused(&["mutate", "../x", "--services", "ssh"]).contains("decky name"));
    let decoy =
        Command::new(env!("CARGO_BIN_EXE_decnet-lifecycle")).args(["decoy", "--service", "ssh"]).output();
    assert!(String::from_utf8(decoy.unwrap().stderr).unwrap().contains("decoys are started by"));

    for bytes in [&b""[..], b"not a store", b"redb\x1a\x0a\xa9\x0d\x0a and then nothing"] {
        std::fs::write(home.path("lifecycle.redb"), bytes).unwrap();
        for command in [&["ls"][..], &["deploy", FLEET], &["sweep"], &["export"]] {
            home.refused(command);
            assert_eq!(std::fs::read(home.path("lifecycle.redb")).unwrap(), bytes, "{command:?}");
        }
    }
    std::fs::remove_file(home.path("lifecycle.redb")).unwrap();
    // A state file of the first version that says nothing is told, and kept.
    home.file("fleet-state.json", "{\"config\": 7}");
    assert!(home.refused(&["teardown", "--yes"]).contains("says nothing that can be read"));
    let kept = std::fs::read_to_string(home.path("fleet-state.json.taken-over")).unwrap();
    assert_eq!(kept, "{\"config\": 7}");
}

/// A deploy that waits for a decoy to stop that doesn't, as long as its lock is
/// held, which is given.
fn stuck(home: &Home) -> (Child, std::fs::File) {
    let mut fleet: Value = serde_json::from_str(&std::fs::read_to_string(FLEET).unwrap()).unwrap();
    let decky = fleet["deckies"][0].clone();
    for number in 10..60 {
        let mut more = decky.clone();
        more["name"] = format!("decky-{number}").into();
        more["ip"] = format!("192.168.51.{number}").into();
        fleet["deckies"].as_array_mut().unwrap().push(more);
    }
    let path = home.file("many.json", &fleet.to_string());
    std::fs::create_dir(home.path("decoys")).unwrap();
    let lock = std::fs::File::create(home.path("decoys/decky-10.ssh.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = home
        .command(&["--json", "deploy", &path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = out.lines().map_while(Result::ok);
    lines.find(|line| line.contains("\"progress\"")).unwrap();
    // Somebody must go on reading, or the pipe fills up.
    let rest = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
    child.stdin = None;
    RESTS.with(|rests| rests.borrow_mut().push(rest));
    (child, lock)
}

thread_local! {
    static RESTS: std::cell::RefCell<Vec<std::thread::JoinHandle<String>>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[test]
fn others_read_and_watch_beside_a_running_deploy_and_ctrl_c_stops_it_cleanly() {
    let home = Home::new();
    let (mut child, _lock) = stuck(&home);
    assert_eq!(home.json(0, &["ls", "--limit", "100"]).len(), 56, "ls beside a running deploy");
    assert_eq!(home.json(0, &["ls", "--open", "--decky", "decky-10"]).len(), 1);
    let told = home.refused(&["sweep"]);
    assert!(told.contains(&format!("in use by process {}", child.id())) && told.contains("--wait"), "{told}");
    let mut watch = home.command(&["--json", "watch", "--from", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first: Value = serde_json::from_str(&seen.next().unwrap()).unwrap();
    assert_eq!((&first["revision"], &first["status"]), (&1.into(), &"pending".into()));

    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("asking what runs to stop"), "{told}");
    let printed = RESTS.with(|rests| rests.borrow_mut().pop().unwrap().join().unwrap());
    assert!(printed.lines().last().unwrap().contains("\"decoys\""), "{printed}");
    let rows = home.json(0, &["ls", "--limit", "100"]);
    assert!(
        rows.iter().all(
            |row| row["status"] == "succeeded" || row["error"].as_str().unwrap().starts_with("Cancelled")
        )
    );
    assert!(rows.iter().any(|row| row["status"] == "failed"));
    // The watcher, which ran beside, has seen each row end.
    let mut ended = 0;
    while ended < rows.len() {
        let entry: Value = serde_json::from_str(&seen.next().unwrap()).unwrap();
        ended += usize::from(entry["status"] == "succeeded" || entry["status"] == "failed");
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_killed_master_leaves_a_store_that_opens_and_rows_that_end() {
    let home = Home::new();
    let (mut child, lock) = stuck(&home);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lock);
    // Reading works right after, and the rows still say what they were.
    let open = home.json(0, &["ls", "--open", "--limit", "100"]).len();
    assert!(open >= 1, "decky-10 at least");
    assert_eq!(home.json(0, &["sweep"])[0]["failed"], open);
    let row = home.json(0, &["ls", "--decky", "decky-10"]).remove(0);
    assert!(row["error"].as_str().unwrap().starts_with("MasterRestarted"), "{row}");
    // What had ended before is as it ended.
    let ended = home.json(0, &["ls", "--status", "succeeded", "--limit", "100"]).len();
    assert_eq!(ended, 56 - open);
    home.lines(0, &["deploy", FLEET, "--only", "decky-01"]);
    // What it had begun is found by its files: taken up again, and down.
    let many = home.path("many.json");
    home.lines(0, &["deploy", many.to_str().unwrap()]);
    home.lines(0, &["teardown", "--yes"]);
}

#[test]
fn a_flood_and_a_silent_client_do_not_hold_a_decoy() {
    let home = Home::new();
    home.lines(0, &["deploy", FLEET, "--only", "decky-02"]);
    let smtp = home.port("decky-02", "smtp").unwrap();
    // One address gets 16 connections at once; the next is closed unheard.
    let silent: Vec<TcpStream> = (0..16).map(|_| connect(smtp)).collect();
    for stream in &silent {
        let mut greeting = [0; 3];
        (&*stream).read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"220");
    }
    let mut nothing = Vec::new();
    let closed = connect(smtp).read_to_end(&mut nothing);
    assert!(nothing.is_empty() && !closed.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    drop(silent);
    // A line without an end is cut off.
    let redis = home.port("decky-02", "redis").unwrap();
    let mut flood = connect(redis);
    let until = Instant::now() + Duration::from_secs(30);
    while flood.write_all(&[b'x'; 4096]).is_ok() {
        assert!(Instant::now() < until, "a flood is read without end");
    }
    assert_eq!(first_line(redis, "PING\r\n"), "+PONG\r\n");
}

#[test]
fn a_tap_prints_what_it_hears_and_says_what_to_do_without_a_bus() {
    let home = Home::new();
    let socket = home.path("bus.sock");
    let named = socket.to_str().unwrap();
    assert!(home.refused(&["bus", "tap", "--socket", named]).contains("is it running"));
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut tap =
        home.command(&["--json", "bus", "tap", "--socket", named]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let body = br#"{"v":1,"id":"7","topic":"decky.a.lifecycle","type":"lifecycle","ts":1.5,"payload":{"status":"failed"}}"#;
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    server.write_all(&[b"EVT decky.a.lifecycle\n", &length[..], body].concat()).unwrap();
    let mut line = String::new();
    BufReader::new(tap.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let heard: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&heard["topic"], &heard["payload"]["status"]),
        (&"decky.a.lifecycle".into(), &"failed".into())
    );
    drop(server);
    assert_eq!(tap.wait().unwrap().code(), Some(2));
}

#[test]
fn help_and_completions_are_there() {
    let home = Home::new();
    let help = home.lines(0, &["--help"]).join("\n");
    for command in
        ["deploy", "ls", "show", "wait", "watch", "mutate", "teardown", "cancel", "sweep", "prune", "export"]
    {
        assert!(help.contains(&format!("\n  {command}")), "{help}");
        home.lines(0, &[command, "--help"]);
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.lines(0, &["completions", shell]).join("\n").contains("decnet-lifecycle"));
    }
}

#[test]
fn what_cannot_be_written_is_no_success_and_a_reader_that_leaves_is_no_failure() {
    let home = Home::new();
    home.lines(0, &["deploy", FLEET, "--only", "decky-01"]);
    for args in [&["export"][..], &["export", "--state"], &["ls"], &["ps"], &["completions", "bash"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = home.command(args).stdout(full).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(
            told.contains("error: writing to stdout: ") && !told.contains("panicked"),
            "{args:?}: {told}"
        );
        let mut child = home.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    home.lines(0, &["teardown", "--yes"]);
}
