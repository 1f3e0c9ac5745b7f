//! A throw-away server, or the one that the environment names.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use decnet_lifecycle::store::{PostgresSettings, PostgresStore};
use futures_lite::future::block_on;

/// Runs as who may run a server, and takes orders; stops the server and removes
/// all when the test ends, however it ends.
const KEEPER: &str = r#"
bin=$1; shift
umask 077
trap '' PIPE # whoever listened is gone: clear up, too
dir=$(mktemp -d /tmp/decnet-postgres.XXXXXX) || exit 1
cd "$dir" || exit 1
stop() { "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1; }
trap 'stop; [ -z "$pooler" ] || kill "$pooler" 2>/dev/null; rm -rf "$dir"' EXIT
"$bin/initdb" -D "$dir/data" -U decnet -A trust -E UTF8 --no-sync >"$dir/initdb.log" 2>&1 || {
    cat "$dir/initdb.log" >&2; exit 1; }
cat >>"$dir/data/postgresql.conf" <<EOF
unix_socket_directories = '$dir'
listen_addresses = '127.0.0.1'
max_connections = 200
fsync = off
logging_collector = off
log_min_messages = warning
EOF
echo "$dir"
while read -r order rest; do
    case $order in
    start) "$bin/pg_ctl" -D "$dir/data" -o "-p $rest" -l "$dir/log" -w start >/dev/null 2>&1 &&
        echo ok || { cat "$dir/log" >&2; echo failed; } ;;
    crash) stop && echo ok || echo failed ;;
    put) # a file of the cluster's, in base64
        set -- $rest
        echo "$2" | base64 -d >"$dir/data/$1" && echo ok ;;
    set) echo "$rest" >>"$dir/data/postgresql.conf"; echo ok ;;
    pooler) # the port of the server, the pooler's own port, and which program
        set -- $rest
        cat >"$dir/pooler.ini" <<EOF
[databases]
* = host=127.0.0.1 port=$1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $2
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
EOF
        sed -i "s/^\* = .*/& user=decnet/" "$dir/pooler.ini"
        "$3" -q "$dir/pooler.ini" >"$dir/pooler.log" 2>&1 </dev/null & pooler=$!; echo ok ;;
    esac
done
"#;

/// A server that this test started, or was told of.
pub struct Server {
    url: String,
    kept: Option<Mutex<Kept>>,
    psql: PathBuf,
    schemas: AtomicU32,
}

struct Kept {
    _keeper: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Kept {
    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "ok", "the server did not {order}");
    }
}

/// A server that all tests share; none where there is none.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Server::given().or_else(Server::start)).as_ref()
}

/// A server of the test's own, to be stopped and started; not where the
/// environment names one.
pub fn own_server() -> Option<Server> {
    match Server::given() {
        Some(_) => {
            say("SKIPPED: the server of DECNET_LIFECYCLE_TEST_POSTGRES is not ours to stop");
            None
        }
        None => Server::start(),
    }
}

/// The folders that server programs lie in, the newest last.
fn binaries() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("DECNET_LIFECYCLE_POSTGRES_BIN") {
        return Some(dir.into());
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&in_path).chain(found).filter(|dir| dir.join("initdb").is_file()).last()
}

/// The pooler's program, if it is there.
pub fn pooler_program() -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&in_path).chain(["/usr/sbin".into()]);
    let found = dirs.map(|dir| dir.join("pgbouncer")).find(|path| path.is_file());
    if found.is_none() {
        skipped("there is no pgbouncer");
    }
    found
}

/// Says loudly that something was not tested; fails where that must not be.
pub fn skipped(why: &str) {
    say(&format!(
        "SKIPPED: {why}; install PostgreSQL and pgbouncer, or set DECNET_LIFECYCLE_TEST_POSTGRES=URL"
    ));
    assert!(std::env::var_os("DECNET_LIFECYCLE_NEED_POSTGRES").is_none(), "it is needed: {why}");
}

/// Past the harness, which keeps what a test that passes prints.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// That which the environment names.
    pub fn given() -> Option<Self> {
        let url = std::env::var("DECNET_LIFECYCLE_TEST_POSTGRES").ok().filter(|url| !url.is_empty())?;
        let psql = binaries().map_or_else(|| "psql".into(), |bin| bin.join("psql"));
        Some(Self { url, kept: None, psql, schemas: AtomicU32::new(0) })
    }

    fn start() -> Option<Self> {
        let Some(bin) = binaries() else {
            skipped("there is no server here");
            return None;
        };
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        // A server refuses to run as root.
        let mut keeper = if is_root {
            let mut keeper = Command::new("setpriv");
            keeper.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            keeper
        } else {
            Command::new("sh")
        };
        keeper.args(["-c", KEEPER, "keeper"]).arg(&bin).current_dir("/");
        // What ends this process and its group is not to reach it: it has to clear up.
        keeper.process_group(0);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = keeper.stdin.take().unwrap();
        let mut answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut dir = String::new();
        answers.read_line(&mut dir).unwrap();
        assert!(!dir.trim().is_empty(), "no database cluster could be made");
        let port = free_port();
        let mut kept = Kept { _keeper: keeper, orders, answers, port };
        kept.order(&format!("start {port}"));
        Some(Self {
            url: format!("postgres://decnet@127.0.0.1:{port}/postgres"),
            kept: Some(Mutex::new(kept)),
            psql: bin.join("psql"),
            schemas: AtomicU32::new(0),
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens, if it is ours.
    pub fn port(&self) -> Option<u16> {
        Some(self.kept.as_ref()?.lock().unwrap().port)
    }

    /// Kills the server as if its machine had lost power, and starts it again.
    pub fn crash(&self) {
        self.stop();
        self.start_again();
    }

    pub fn stop(&self) {
        self.kept.as_ref().unwrap().lock().unwrap().order("crash");
    }

    pub fn start_again(&self) {
        let mut kept = self.kept.as_ref().unwrap().lock().unwrap();
        let order = format!("start {}", kept.port);
        kept.order(&order);
    }

    /// A line of its configuration, from the next start on.
    pub fn set(&self, line: &str) {
        self.kept.as_ref().unwrap().lock().unwrap().order(&format!("set {line}"));
    }

    /// A file in the cluster's folder.
    pub fn put(&self, name: &str, text: &str) {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        self.kept.as_ref().unwrap().lock().unwrap().order(&format!("put {name} {text}"));
    }

    /// Who may connect, from the next start on.
    pub fn put_hba(&self, lines: &str) {
        self.put("pg_hba.conf", lines);
    }

    /// Starts a pooler in transaction mode; its URL.
    pub fn pooler(&self, program: &Path) -> String {
        let (mut kept, port) = (self.kept.as_ref().unwrap().lock().unwrap(), free_port());
        let order = format!("pooler {} {port} {}", kept.port, program.display());
        kept.order(&order);
        drop(kept);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < end, "the pooler does not listen");
            std::thread::yield_now();
        }
        format!("postgres://decnet@127.0.0.1:{port}/postgres")
    }

    /// Settings with a schema of their own; in a database that is not ours it
    /// stays, as decnet_test_..
    pub fn fresh(&self) -> PostgresSettings {
        self.fresh_at(&self.url)
    }

    /// The same by another way to the same server.
    pub fn fresh_at(&self, url: &str) -> PostgresSettings {
        let number = self.schemas.fetch_add(1, Ordering::SeqCst);
        let schema = format!("decnet_test_{}_{number}", std::process::id());
        self.sql(&format!("drop schema if exists {schema} cascade"));
        url.parse::<PostgresSettings>().unwrap().schema(&schema).unwrap()
    }

    /// What a statement gives, as text.
    pub fn sql(&self, statement: &str) -> String {
        self.sql_at(&self.url, statement)
    }

    fn sql_at(&self, url: &str, statement: &str) -> String {
        let mut psql = Command::new(&self.psql);
        let said = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement]);
        let said = said.env("PGOPTIONS", "-c client_min_messages=warning").output().unwrap();
        assert!(said.status.success(), "{statement}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }
}

pub fn connect(settings: &PostgresSettings) -> PostgresStore {
    block_on(PostgresStore::connect(settings.clone())).unwrap()
}

/// The schema that settings name, for statements.
pub fn schema(settings: &PostgresSettings) -> String {
    let shown = format!("{settings:?}");
    let name = shown.split("schema: \"").nth(1).and_then(|rest| rest.split('"').next());
    name.unwrap().to_owned()
}
