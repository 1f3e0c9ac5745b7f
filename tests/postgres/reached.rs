//! How the server is found, who may use it, and what is refused.

use std::time::Duration;

use decnet_lifecycle::{
    store::{PostgresError, PostgresSettings, PostgresStore, Retention, Store as _},
    *,
};
use futures_lite::future::block_on;

use crate::server::{connect, free_port, own_server, schema, server};
use crate::work::{applied, insert};

fn refused(url: &str) -> String {
    url.parse::<PostgresSettings>().unwrap_err().to_string()
}

fn unreachable(settings: PostgresSettings) -> String {
    block_on(PostgresStore::connect(settings)).unwrap_err().to_string()
}

#[test]
fn urls_are_read_strictly_and_keep_their_secrets() {
    for (url, says) in [
        ("mysql://u:hunter2@h/d", "postgres://"),
        ("postgres://u:hunter2@h/d?sslmode=require", "verify-full"),
        ("postgres://u:hunter2@h/d?sslmode=allow", "verify-full"),
        ("postgres://u:hunter2@h/d?hunter2=x", "parameter"),
        ("postgres://u:hun@ter2?@h/d", "parameter"),
        ("postgres://u:hunter2@h:99999/d", "parameter"),
        ("postgres://u:hunter2@h:1,i:2,j:3/d?port=4", "port"),
        ("postgres://u:hunter2@/d", "host"),
        ("postgres://h/d", "user"),
        ("postgres://u:hunter2@h/d?schema=Public", "lowercase"),
        ("postgres://u:hunter2@h/d?schema=a;drop", "lowercase"),
        ("postgres://u:hunter2@h/d?schema=pg_catalog", "lowercase"),
        ("postgres://u:hunter2@h/d?notify=maybe", "on or off"),
        ("postgres://u:hunter2@h/d?target_session_attrs=read-only", "writes"),
        ("postgres://u:hunter2@h/d?options=-cfsync%3Doff", "options"),
    ] {
        let said = refused(url);
        assert!(said.contains(says), "{url}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("ter2"), "{said}");
    }
    let both = "postgres://u:hunter2@h1,[::1]:5433/d?target_session_attrs=read-write&notify=off";
    let settings: PostgresSettings = both.parse().unwrap();
    assert_eq!(settings.hosts(), "h1:5432, ::1:5433");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let socket: PostgresSettings = "postgres://u@/d?host=/run/postgresql".parse().unwrap();
    assert_eq!(socket.hosts(), "/run/postgresql");
    assert!(!socket.has_password() && socket.password("x").has_password());
}

#[test]
fn what_leaves_the_machine_is_encrypted_or_refused() {
    // TEST-NET-1 and the like: nobody answers, and nobody is asked.
    let off: PostgresSettings = "postgres://u:hunter2@0.0.0.1/d".parse().unwrap();
    let said = unreachable(off);
    assert!(
        said.contains("unreachable") || said.contains("invalid") || said.contains("TLS is needed"),
        "{said}"
    );
    let without = "postgres://u:hunter2@127.0.0.1:1/d?sslmode=verify-full".parse().unwrap();
    assert!(unreachable(without).contains("sslrootcert"));
    let missing =
        "postgres://u@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=/nowhere/ca%2Epem".parse().unwrap();
    assert!(unreachable(missing).contains("/nowhere/ca.pem"));
}

#[test]
fn a_server_is_known_by_its_ca_and_its_name() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let Some(server) = own_server() else { return };
    let port = server.port().unwrap();
    let ca = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let (trusted, issuer) = ca("ours");
    let (other, _) = ca("another");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    server.put("server.crt", &certificate.pem());
    server.put("server.key", &key.serialize_pem());
    server.set("ssl = on");
    server.put_hba("hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n");
    server.sql("set password_encryption = 'scram-sha-256'; alter role decnet password 'hunter2'");
    server.crash();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let at = |host: &str, rest: &str| -> PostgresSettings {
        format!("postgres://decnet@{host}:{port}/postgres?{rest}").parse().unwrap()
    };
    let (trusted, other) = (file("ours.pem", &trusted), file("other.pem", &other));
    let full = |roots: &str| format!("sslmode=verify-full&sslrootcert={roots}");
    let store =
        block_on(PostgresStore::connect(at("localhost", &full(&trusted)).password("hunter2"))).unwrap();
    let _ = block_on(applied(&store, insert(1, 1))).unwrap();
    // Another CA; a name that isn't the server's; no TLS; another password.
    let said = unreachable(at("localhost", &full(&other)).password("hunter2"));
    assert!(said.contains("certificate"), "{said}");
    let said = unreachable(at("127.0.0.1", &full(&trusted)).password("hunter2"));
    assert!(said.contains("certificate"), "{said}");
    let said = unreachable(at("localhost", "sslmode=disable").password("hunter2"));
    assert!(said.contains("no encryption") || said.contains("pg_hba"), "{said}");
    let said = unreachable(at("localhost", &full(&trusted)).password("hunter3"));
    assert!(said.contains("28P01") && !said.contains("hunter"), "{said}");
}

#[test]
fn hosts_that_take_no_writes_are_passed_over() {
    let Some((standby, server)) = own_server().zip(server()) else { return };
    let Some(port) = server.port() else { return };
    standby.set("default_transaction_read_only = on");
    standby.crash();
    let settings = server.fresh();
    let (dead, read_only) = (free_port(), standby.port().unwrap());
    let hosts = format!("127.0.0.1:{dead},127.0.0.1:{read_only},localhost:{port}");
    let url = format!("postgres://decnet@{hosts}/postgres?schema={}", schema(&settings));
    let _ = block_on(applied(&connect(&url.parse().unwrap()), insert(1, 1))).unwrap();
    let said = unreachable(format!("postgres://decnet@127.0.0.1:{read_only}/postgres").parse().unwrap());
    assert!(said.contains("takes no writes"), "{said}");
}

#[test]
fn an_only_writer_keeps_others_out_until_it_is_gone() {
    let Some(server) = own_server() else { return };
    let settings = server.fresh().only_writer();
    let first = connect(&settings);
    let said = unreachable(settings.clone());
    assert!(said.contains("in use by another master") && said.contains("decnet-lifecycle"), "{said}");
    // Who doesn't ask, and who is in another schema, is let in.
    drop(connect(&server.fresh().only_writer()));
    // Its lock's session is killed: it takes the lock again, without a call.
    let holders = "from pg_stat_activity where state = 'idle in transaction' \
                   and query like '%pg_try_advisory_xact_lock%'";
    let holder = server.sql(&format!("select pid {holders}"));
    server.sql(&format!("select pg_terminate_backend({holder})"));
    while matches!(server.sql(&format!("select pid {holders}")), now if now.is_empty() || now == holder) {}
    assert!(unreachable(settings.clone()).contains("in use"));
    let _ = block_on(applied(&first, insert(1, 1))).unwrap();
    // The server crashes: who has the lock then may write, and the other may not.
    server.stop();
    server.start_again();
    let second = loop {
        match block_on(PostgresStore::connect(settings.clone())) {
            Ok(second) => break Some(second),
            Err(PostgresError::InUse { .. }) => break None,
            Err(_) => {}
        }
    };
    match second {
        Some(second) => {
            let error = block_on(applied(&first, insert(3, 1))).unwrap_err();
            assert!(
                matches!(&error, StoreError::Closed { why } if why.contains("another master")),
                "{error}"
            );
            let _ = block_on(applied(&second, insert(3, 1))).unwrap();
        }
        None => drop(block_on(applied(&first, insert(3, 1))).unwrap()),
    }
    drop(first);
    let second = connect(&settings);
    let _ = block_on(applied(&second, insert(2, 1))).unwrap();
}

#[test]
fn a_role_that_may_only_use_the_tables_will_do() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let (tables, role) = (schema(&settings), format!("user_{}", schema(&settings)));
    server.sql(&format!("create role {role} login"));
    let url = server.url().replace("decnet@", &format!("{role}@"));
    let as_role: PostgresSettings = url.parse::<PostgresSettings>().unwrap().schema(&tables).unwrap();
    let error = block_on(PostgresStore::connect(as_role.clone())).unwrap_err();
    assert!(matches!(&error, PostgresError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("schema_sql"), "{error}");
    server.sql(&settings.schema_sql());
    server.sql(&format!(
        "grant usage on schema {tables} to {role}; \
         grant select, insert, update, delete on all tables in schema {tables} to {role}"
    ));
    let store = connect(&as_role);
    let _ = block_on(crate::work::submit(&store, 1, 2)).unwrap();
    while block_on(store.prune(&Retention::closed_before(crate::work::at(9_000)))).unwrap().more {}
    // Nothing was made twice by who came second.
    let _ = connect(&settings);
    drop(store);
    server.sql(&format!("drop schema {tables} cascade; drop role {role}"));
}

#[test]
fn tables_of_a_newer_version_are_left_alone() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    for _ in 0..2 {
        block_on(PostgresStore::migrate(settings.clone().existing_only())).unwrap();
    }
    server.sql(&format!("update {}.meta set schema = 99", schema(&settings)));
    let error = block_on(PostgresStore::connect(settings)).unwrap_err();
    assert!(matches!(error, PostgresError::Newer { found: 99, known: 1, .. }), "{error}");
}

#[test]
fn many_that_start_at_once_make_the_tables_once() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let all = (0..8).map(|_| PostgresStore::connect(settings.clone()));
    let all = block_on(futures_util::future::join_all(all));
    assert!(all.iter().all(Result::is_ok), "{all:?}");
}

#[test]
fn a_closed_store_says_so() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let store = connect(&settings);
    let row = block_on(applied(&store, insert(1, 1))).unwrap();
    block_on(store.close()).unwrap();
    block_on(store.close()).unwrap();
    let refused = block_on(applied(&store, insert(2, 1))).unwrap_err();
    assert!(matches!(refused, StoreError::Closed { .. }), "{refused}");
    assert!(matches!(block_on(store.read(&[row.id])), Err(StoreError::Closed { .. })));
    // With all patience, and without a server: whoever drops it doesn't wait.
    let Some(server) = own_server() else { return };
    let store = connect(&server.fresh().patience(Duration::from_secs(3_600)));
    server.stop();
    let _ = block_on(futures_lite::future::poll_once(applied(&store, insert(1, 1))));
    let began = std::time::Instant::now();
    drop(store);
    assert!(began.elapsed() < Duration::from_secs(60));
}
