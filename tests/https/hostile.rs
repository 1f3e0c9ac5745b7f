//! Peers that hang, drip, flood, lie and leave: each call ends, with an error
//! that says whether the worker may have got it.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use decnet_lifecycle::agent::Agents as _;
use decnet_lifecycle::agent::https::HttpsAgents;
use decnet_lifecycle::agent::{AgentError, Host};
use futures_lite::future::{block_on, poll_once};

use crate::tls::{Ca, HANGS, Peer};
use crate::{host, mutate, mutate_call, soon};

type Pinned = decnet_lifecycle::agent::Pin;

/// More than what the sockets of both sides buffer, and less than what a
/// reader without bounds would take.
const BOUND: usize = 32 << 20;

#[test]
fn nobody_listens() {
    let ca = Ca::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let answer = mutate(ca.issue("master", "127.0.0.1").identity(), &address, Pinned::CaOnly);
    assert!(matches!(answer, Err(AgentError::Unreachable { .. })), "{answer:?}");
    for address in ["no port", "a/b:1", "w1:0", "user@w1:80"] {
        let answer = mutate(ca.issue(&address.replace('/', "-"), "x").identity(), address, Pinned::CaOnly);
        assert!(
            matches!(&answer, Err(AgentError::Unreachable { reason }) if reason.contains("host:port")),
            "{answer:?}"
        );
    }
}

#[test]
fn a_peer_that_speaks_something_else() {
    let ca = Ca::new();
    let master = ca.issue("master", "127.0.0.1");
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x16\x03\x03\xff\xff", b"", &[0; 70_000]] {
        let peer = Peer::raw(move |mut stream| {
            let _ = stream.write_all(said);
        });
        let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
        assert!(matches!(answer, Err(AgentError::Tls { .. })), "{answer:?}");
    }
}

#[test]
fn a_peer_that_hangs_before_the_handshake() {
    let ca = Ca::new();
    let peer = Peer::raw(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let answer = mutate(ca.issue("master", "127.0.0.1").identity(), &peer.address, Pinned::CaOnly);
    let Err(AgentError::Tls { reason }) = answer else { panic!("{answer:?}") };
    assert_eq!(reason, "no connection within 2 s");
}

#[test]
fn a_peer_that_hangs_after_the_request_or_within_its_answer() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    for said in ["", "HTTP/1.1 20", "HTTP/1.1 202 Accepted\r\ncontent-le"] {
        let peer = Peer::tls(worker.server(), move |tls, _| {
            let _ = tls.write_all(said.as_bytes());
            let _ = tls.read(&mut [0]);
        });
        let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
        let Err(AgentError::Unconfirmed { reason }) = answer else { panic!("{answer:?}") };
        assert_eq!(reason, "no answer within 2 s", "{said}");
    }
    // The status says all; that the body never comes is no matter.
    let peer = Peer::tls(worker.server(), |tls, _| {
        let _ = tls.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\n");
        let _ = tls.read(&mut [0]);
    });
    assert_eq!(mutate(master.identity(), &peer.address, Pinned::CaOnly), Ok(()));
}

/// Each byte comes in time, and all of them never do.
#[test]
fn a_peer_that_drips() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let peer = Peer::tls(worker.server(), |tls, _| {
        for byte in b"HTTP/1.1 202 Accepted\r\nx-padding: ".iter().chain(std::iter::repeat(&b'x')) {
            if tls.write_all(&[*byte]).and_then(|()| tls.flush()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
    assert!(matches!(answer, Err(AgentError::Unconfirmed { .. })), "{answer:?}");
    // In the body of a refusal: what came says something.
    let peer = Peer::tls(worker.server(), |tls, _| {
        let _ = tls.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 900\r\n\r\nno room");
        let _ = tls.read(&mut [0]);
    });
    let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
    assert_eq!(answer, Err(AgentError::Failed { reason: "500: no room".to_owned() }));
}

#[test]
fn a_peer_that_floods() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let chunked = "HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n";
    let flood = |start: &'static str, unit: &'static [u8]| {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let peer = Peer::tls(worker.server(), move |tls, _| {
            let _ = tls.write_all(start.as_bytes());
            // At most twice the bound: a reader without one would take it all.
            while counted.load(Ordering::SeqCst) < 2 * BOUND && tls.write_all(unit).is_ok() {
                counted.fetch_add(unit.len(), Ordering::SeqCst);
            }
        });
        let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
        let taken = sent.load(Ordering::SeqCst);
        // Of answers before the answer none is kept; time ends them.
        assert!(taken < BOUND || unit.starts_with(b"HTTP/1.1 100"), "{taken} bytes were taken");
        answer
    };
    let body = flood("HTTP/1.1 500 Oh\r\ncontent-length: 99999999999\r\n\r\n", &[b'x'; 4096]);
    let Err(AgentError::Failed { reason }) = body else { panic!("{body:?}") };
    assert_eq!(reason.len(), "500: ".len() + 500);
    let chunks = flood(chunked, b"10\r\n0123456789abcdef\r\n");
    assert!(matches!(chunks, Err(AgentError::Failed { .. })), "{chunks:?}");
    assert_eq!(flood("HTTP/1.1 202 Accepted\r\n\r\n", &[b'x'; 4096]), Ok(()));
    for (start, unit) in [
        ("HTTP/1.1 202 Accepted\r\n", &b"x-header: a header among many, many more\r\n"[..]),
        ("HTTP/1.1 202 Accepted\r\nx-long: ", &[b'x'; 4096]),
        ("", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("HTTP/1.1 202 ", &[b'x'; 4096]),
    ] {
        let answer = flood(start, unit);
        assert!(matches!(answer, Err(AgentError::Unconfirmed { .. })), "{start:?}: {answer:?}");
    }
}

#[test]
fn a_peer_that_leaves_after_the_request() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let resets = Peer::tls(worker.server(), |tls, _| {
        let _ = tls.sock.shutdown(std::net::Shutdown::Both);
    });
    let closes = Peer::answering(worker.server(), "");
    let half = Peer::answering(worker.server(), "HTTP/1.1 2");
    let garbage = Peer::answering(worker.server(), "\0\0\0\0\r\n\r\n");
    for peer in [resets, closes, half, garbage] {
        let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
        assert!(matches!(answer, Err(AgentError::Unconfirmed { .. })), "{answer:?}");
    }
}

#[test]
fn a_dropped_future_closes_the_connection() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let peer = Peer::tls(worker.server(), |tls, tell| {
        tell(1);
        let _ = tls.read(&mut [0]); // until the other side is gone
        tell(2);
    });
    // Without the drop the call would last longer than this test may.
    let mut limits = soon();
    (limits.response, limits.total) = (HANGS * 10, HANGS * 10);
    let agents = HttpsAgents::new(master.identity()).limits(limits);
    let (host, what) = (host(&peer.address, Pinned::CaOnly), mutate_call());
    let mut call = Box::pin(agents.mutate(&host, &what));
    block_on(async { assert!(poll_once(&mut call).await.is_none()) });
    assert_eq!(peer.told.recv_timeout(HANGS), Ok(1));
    drop(call);
    assert_eq!(peer.told.recv_timeout(HANGS), Ok(2));
}

/// A host that hangs holds up its own rows alone.
#[test]
fn a_host_that_hangs_delays_no_other() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let hung = Peer::tls(worker.server(), |tls, tell| {
        tell(1);
        let _ = tls.read(&mut [0]);
    });
    let good = Peer::answering(worker.server(), "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    let mut limits = soon();
    (limits.response, limits.total) = (HANGS * 10, HANGS * 10);
    let agents = HttpsAgents::new(master.identity()).limits(limits);
    let what = mutate_call();
    let hung_hosts: Vec<Host> = (0..64).map(|_| host(&hung.address, Pinned::CaOnly)).collect();
    let mut calls: Vec<_> = hung_hosts.iter().map(|host| Box::pin(agents.mutate(host, &what))).collect();
    block_on(async {
        for call in &mut calls {
            assert!(poll_once(call).await.is_none());
        }
    });
    for _ in 0..64 {
        assert_eq!(hung.told.recv_timeout(HANGS), Ok(1));
    }
    assert_eq!(mutate(master.identity(), &good.address, Pinned::CaOnly), Ok(()));
}
