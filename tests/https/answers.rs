//! What is made of answers.

use decnet_lifecycle::agent::AgentError;
use decnet_lifecycle::agent::Agents as _;
use decnet_lifecycle::agent::https::HttpsAgents;
use futures_lite::future::block_on;

use crate::tls::{Ca, Peer};
use crate::{host, mutate, teardown_call};

type Pinned = decnet_lifecycle::agent::Pin;

#[test]
fn a_refusal_tells_the_agent_s_words() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let fields = r#"{"detail":[{"type":"missing","loc":["body","services"],"msg":"Field required","input":{}},
                     {"type":"x","loc":["body","config","deckies",0,"ip"],"msg":"no address"}]}"#;
    for (status, body, reason) in [
        (401, "", "401, without a word"),
        (404, r#"{"detail":"Not Found"}"#, "404: Not Found"),
        (405, r#"{"detail":"Method Not Allowed"}"#, "405: Method Not Allowed"),
        (422, fields, "422: body.services: Field required; body.config.deckies.0.ip: no address"),
        (422, r#"{"detail":{"odd":[1]}}"#, r#"422: {"odd":[1]}"#),
        (422, r#"{"detail":["odd", {"loc":1}]}"#, r#"422: "odd"; {"loc":1}"#),
        (501, "Not Implemented", "501: Not Implemented"),
        (503, "{\"detail\": ", "503: {\"detail\":"),
        (503, "\u{1b}[31mred\u{7}", "503: [31mred"),
        (503, "[1, 2]", "503: [1, 2]"),
        (302, "", "302, without a word"),
    ] {
        let answer = format!(
            "HTTP/1.1 {status} Oh\r\nlocation: https://192.0.2.1/elsewhere\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let peer = Peer::answering(worker.server(), answer);
        let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
        assert_eq!(answer, Err(AgentError::Refused { reason: reason.to_owned() }));
        assert_eq!(peer.heard().len(), 1, "{status}: it is asked once, and no other");
    }
}

/// One that took the call and failed at it, and a proxy that doesn't know what
/// became of it, have refused nothing.
#[test]
fn a_failure_is_no_refusal() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    for (status, body, reason) in [
        (500, r#"{"detail":"a decky did not go"}"#, "500: a decky did not go"),
        (500, "Internal Server Error", "500: Internal Server Error"),
        (507, "", "507, without a word"),
        (502, "Bad Gateway", "502: Bad Gateway"),
        (504, "", "504, without a word"),
    ] {
        let answer = format!("HTTP/1.1 {status} Oh\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let peer = Peer::answering(worker.server(), answer);
        let answer = mutate(master.identity(), &peer.address, Pinned::CaOnly);
        let reason = reason.to_owned();
        let wanted = match status {
            502 | 504 => AgentError::Unconfirmed { reason },
            _ => AgentError::Failed { reason },
        };
        assert_eq!(answer, Err(wanted));
    }
}

/// A good answer to another question is no evidence.
#[test]
fn another_success_than_the_one_asked_for_is_no_success() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let agents = HttpsAgents::new(master.identity());
    for (status, deploy) in [(200, false), (204, false), (202, true)] {
        let peer =
            Peer::answering(worker.server(), format!("HTTP/1.1 {status} OK\r\ncontent-length: 0\r\n\r\n"));
        let host = host(&peer.address, Pinned::CaOnly);
        let answer = match deploy {
            true => block_on(agents.teardown(&host, &teardown_call())),
            false => block_on(agents.deploy(&host, &crate::deploy_call())),
        };
        assert!(matches!(answer, Err(AgentError::Unconfirmed { .. })), "{status}: {answer:?}");
    }
}
