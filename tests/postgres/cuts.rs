//! Connections that are cut in the middle of a commit, sessions that are
//! killed, and a server that crashes: nothing acknowledged is lost, nothing is
//! done twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use decnet_lifecycle::{PostgresSettings, Store, StoreError};
use futures_lite::future::block_on;

use crate::proxy::{Cut, Proxy};
use crate::server::{Server, connect, own_server, schema, server};
use crate::work::{applied, feed, insert, nothing_is_lost, submit_all};

/// Says that it is done, also to those who wait while a test fails.
struct Done<'d>(&'d AtomicBool);

impl Done<'_> {
    fn after<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn through(proxy: &Proxy, settings: &PostgresSettings) -> PostgresSettings {
    let url = format!("postgres://decnet@127.0.0.1:{}/postgres", proxy.port);
    url.parse::<PostgresSettings>().unwrap().schema(&schema(settings)).unwrap()
}

/// The shared server, if it is one on a port of this machine.
fn with_port() -> Option<(&'static Server, u16)> {
    let server = server()?;
    Some((server, server.port()?))
}

#[test]
fn a_commit_that_is_cut_off_is_looked_for_and_done_once() {
    let Some((server, port)) = with_port() else { return };
    let (proxy, settings) = (Proxy::to(port), server.fresh());
    let stores = [connect(&through(&proxy, &settings)), connect(&through(&proxy, &settings))];
    proxy.cut_one_in(5);
    let told = submit_all(&[&stores[0], &stores[1]], 8, 6);
    proxy.cut_one_in(0);
    assert!(proxy.cuts() >= 6, "{} cuts", proxy.cuts());
    nothing_is_lost(&stores[0], &told);
}

#[test]
fn a_killed_session_loses_nothing() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let stores = [connect(&settings), connect(&settings)];
    let name = schema(&settings);
    let kill = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where application_name = 'decnet-lifecycle' and query like '%{name}.%'"
    );
    let done = AtomicBool::new(false);
    let (told, killed) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killed = 0;
            while !done.load(Ordering::SeqCst) {
                killed += server.sql(&kill).parse::<u32>().unwrap();
            }
            killed
        });
        let told = Done(&done).after(|| submit_all(&[&stores[0], &stores[1]], 8, 6));
        (told, killer.join().unwrap())
    });
    assert!(killed > 0);
    nothing_is_lost(&stores[1], &told);
}

#[test]
fn a_crash_of_the_server_loses_nothing() {
    let Some(server) = own_server() else { return };
    let settings = server.fresh();
    let stores = [connect(&settings), connect(&settings)];
    let done = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let crasher = scope.spawn(|| {
            Done(&done).after(|| (0..3).for_each(|_| server.crash()));
        });
        // Until it has crashed as often as it shall.
        let mut told = Vec::new();
        let mut submitter = 0;
        while !done.load(Ordering::SeqCst) || submitter == 0 {
            let work = (submitter..submitter + 8).map(|number| {
                let store = &stores[usize::from(number % 2)];
                crate::work::submit(store, number, 4)
            });
            let all = block_on(futures_util::future::join_all(work));
            told.extend(all.into_iter().flat_map(|told| told.unwrap()));
            submitter += 8;
        }
        crasher.join().unwrap();
        told
    });
    nothing_is_lost(&stores[0], &told);
}

#[test]
fn without_a_server_a_call_says_whether_anything_was_done() {
    let Some((server, port)) = with_port() else { return };
    for (cut, is_there) in [(Cut::Answer, true), (Cut::Before, false)] {
        let (proxy, settings) = (Proxy::to(port), server.fresh());
        let impatient = through(&proxy, &settings).patience(Duration::from_millis(200));
        let (store, straight) = (connect(&impatient), connect(&settings));
        let first = block_on(applied(&store, insert(1, 1))).unwrap();
        proxy.cut_and_refuse(cut);
        // Sent, and then nobody is there who could tell.
        let error = block_on(applied(&store, insert(2, 1))).unwrap_err();
        assert!(matches!(error, StoreError::Unknown { .. }) && !error.is_unchanged(), "{cut:?}: {error}");
        // Never sent.
        let error = block_on(applied(&store, insert(3, 1))).unwrap_err();
        assert!(matches!(error, StoreError::NotCommitted { .. }) && error.is_unchanged(), "{cut:?}: {error}");
        // The server may still be at it.
        let _ = block_on(applied(&straight, insert(4, 1))).unwrap();
        assert_eq!(feed(&straight).len(), if is_there { 3 } else { 2 }, "{cut:?}");
        assert_eq!(block_on(straight.read(&[first.id])).unwrap().len(), 1);
        proxy.let_through();
        let _ = block_on(applied(&store, insert(5, 1))).unwrap();
    }
}

#[test]
fn reads_wait_for_a_server_that_comes_back_and_not_for_ever() {
    let Some(server) = own_server() else { return };
    let settings = server.fresh();
    let (patient, impatient) =
        (connect(&settings), connect(&settings.clone().patience(Duration::from_millis(50))));
    let row = block_on(applied(&patient, insert(1, 1))).unwrap();
    server.stop();
    let error = block_on(impatient.read(&[row.id])).unwrap_err();
    assert!(matches!(error, StoreError::NotCommitted { .. }), "{error}");
    std::thread::scope(|scope| {
        let read = scope.spawn(|| block_on(patient.read(&[row.id])).unwrap());
        server.start_again();
        assert_eq!(read.join().unwrap(), std::slice::from_ref(&row));
    });
    assert_eq!(block_on(impatient.read(&[row.id])).unwrap(), [row]);
}
