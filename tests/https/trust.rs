//! Who is called, and who may call: certificates, pins, versions of TLS.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use decnet_lifecycle::agent::AgentError;
use decnet_lifecycle::agent::Agents as _;
use decnet_lifecycle::agent::https::{HttpsAgents, TlsVersions};
use futures_lite::future::block_on;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::tls::{Ca, Peer, pem};
use crate::{host, mutate, mutate_call};

type Pinned = decnet_lifecycle::agent::Pin;

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_wrong_pin_ends_the_handshake_before_any_byte_of_the_request() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let answer = mutate(master.identity(), &peer.address, Pinned::Certificate(master.fingerprint));
    assert_eq!(answer, Err(AgentError::WrongPin { seen: worker.fingerprint }));
    assert_eq!(peer.bytes_heard(), 0);
}

#[test]
fn the_right_pin_under_another_ca_is_refused() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let (master, worker) = (ours.issue("master", "127.0.0.1"), theirs.issue("w1", "127.0.0.1"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let answer = mutate(master.identity(), &peer.address, Pinned::Certificate(worker.fingerprint));
    assert!(
        matches!(&answer, Err(AgentError::Tls { reason }) if reason.contains("invalid peer certificate")),
        "{answer:?}"
    );
    assert_eq!(peer.bytes_heard(), 0);
}

#[test]
fn an_expired_certificate_is_refused_even_if_pinned() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue_expired("w1", "127.0.0.1"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let answer = mutate(master.identity(), &peer.address, Pinned::Certificate(worker.fingerprint));
    assert!(matches!(&answer, Err(AgentError::Tls { reason }) if reason.contains("xpired")), "{answer:?}");
    assert!(
        matches!(&answer, Err(AgentError::Tls { reason }) if reason.contains("is the clock right")),
        "{answer:?}"
    );
    assert_eq!(peer.bytes_heard(), 0);
    // Our own that is refused for its dates.
    let (master, worker) = (ca.issue_expired("old", "127.0.0.1"), ca.issue("w2", "127.0.0.1"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let answer = mutate(master.identity(), &peer.address, Pinned::Certificate(worker.fingerprint));
    // The alert may be lost with the connection.
    let told = answer.unwrap_err().to_string();
    assert!(told.contains("is the clock right") || told.contains("may have got it"), "{told}");
}

#[test]
fn a_name_counts_where_there_is_no_pin_and_only_there() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "elsewhere.test"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
    assert!(matches!(&answer, Err(AgentError::Tls { reason }) if reason.contains("name")), "{answer:?}");
    assert_eq!(peer.bytes_heard(), 0);
    assert_eq!(mutate(master.identity(), &peer.address, Pinned::Certificate(worker.fingerprint)), Ok(()));
}

#[test]
fn while_a_host_rotates_either_certificate_will_do() {
    let ca = Ca::new();
    let master = ca.issue("master", "127.0.0.1");
    let (old, new, other) =
        (ca.issue("old", "127.0.0.1"), ca.issue("new", "127.0.0.1"), ca.issue("other", "127.0.0.1"));
    let pin = Pinned::Rotating { current: old.fingerprint, next: new.fingerprint };
    for (shown, answer) in
        [(&old, Ok(())), (&new, Ok(())), (&other, Err(AgentError::WrongPin { seen: other.fingerprint }))]
    {
        let peer = Peer::answering(shown.server(), ACCEPTED);
        assert_eq!(mutate(master.identity(), &peer.address, pin), answer);
    }
}

#[test]
fn tls_1_2_is_spoken_only_if_asked() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let peer = Peer::answering(worker.server_of_12(), ACCEPTED);
    let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
    assert!(matches!(answer, Err(AgentError::Tls { .. })), "{answer:?}");
    let agents = HttpsAgents::new(master.identity()).tls(TlsVersions::Also12);
    let wrong = Pinned::Certificate(master.fingerprint);
    let answer = block_on(agents.mutate(&host(&peer.address, wrong), &mutate_call()));
    assert_eq!(answer, Err(AgentError::WrongPin { seen: worker.fingerprint }));
    assert_eq!(peer.bytes_heard(), 0);
    assert_eq!(block_on(agents.mutate(&host(&peer.address, Pinned::CaOnly), &mutate_call())), Ok(()));
}

#[test]
fn a_master_that_the_agent_does_not_trust_is_told_so() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let worker = ours.issue("w1", "127.0.0.1");
    // A master of another CA that trusts ours all the same.
    let master = theirs.issue("master", "127.0.0.1");
    std::fs::copy(worker.dir.join("ca.crt"), master.dir.join("ca.crt")).unwrap();
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
    // The refusal comes as an alert, or as a reset if that was faster.
    match &answer {
        Err(AgentError::Tls { reason }) => assert!(reason.contains("alert"), "{answer:?}"),
        Err(AgentError::Unconfirmed { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.bytes_heard(), 0);
}

/// The other side: who comes without a certificate, or with one of another
/// CA, gets no answer.
#[test]
fn our_servers_ask_for_a_certificate_of_our_ca() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let (server, client, stranger) =
        (ours.issue("s", "127.0.0.1"), ours.issue("c", "127.0.0.1"), theirs.issue("x", "127.0.0.1"));
    let peer = Peer::answering(server.server(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let ask = |who: Option<&crate::tls::Bundle>| -> bool {
        let mut roots = RootCertStore::empty();
        let ca = std::fs::read(server.dir.join("ca.crt")).unwrap();
        use rustls::pki_types::pem::PemObject as _;
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match who {
            Some(bundle) => {
                let (chain, key) = pem(&bundle.dir);
                config.with_client_auth_cert(chain, key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let conn = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tls = StreamOwned::new(conn, TcpStream::connect(&peer.address).unwrap());
        let _ = tls.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut tls, &mut answer);
        answer.starts_with(b"HTTP/1.1 200")
    };
    assert!(ask(Some(&client)));
    assert!(!ask(None));
    assert!(!ask(Some(&stranger)));
}

#[test]
fn a_client_is_a_host_by_its_certificate() {
    let ca = Ca::new();
    let (w1, w2) = (ca.issue("w1", "127.0.0.1"), ca.issue("w2", "w2.test"));
    let der = |bundle: &crate::tls::Bundle| pem(&bundle.dir).0.remove(0);
    let pinned = host("127.0.0.1:1", Pinned::Certificate(w1.fingerprint));
    assert!(pinned.is_shown_by(&der(&w1)));
    assert!(!pinned.is_shown_by(&der(&w2)));
    let by_name = host("w2.test:1", Pinned::CaOnly);
    assert!(by_name.is_shown_by(&der(&w2)));
    assert!(!by_name.is_shown_by(&der(&w1)));
    assert!(!by_name.is_shown_by(b"no certificate"));
}
