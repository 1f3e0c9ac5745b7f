//! The worker's side: beats to a master over HTTPS.

use decnet_lifecycle::worker::{BeatReply, HttpsMaster, Master as _, MasterError};
use decnet_lifecycle::{
    beat::{BeatAnswer, Verdict},
    *,
};
use futures_lite::future::block_on;

use crate::soon;
use crate::tls::{Ca, Peer, within};

type Pinned = decnet_lifecycle::agent::Pin;

#[test]
fn each_answer_of_a_master_is_understood() {
    let ca = Ca::new();
    let (worker, master) = (ca.issue("w1", "127.0.0.1"), ca.issue("master", "127.0.0.1"));
    let ask = |answer: &str| {
        let peer = Peer::answering(master.server(), answer);
        let to = HttpsMaster::new(worker.identity(), &peer.address, Pinned::Certificate(master.fingerprint));
        let answer = block_on(to.heartbeat("{}"));
        assert!(peer.heard()[0].starts_with("POST /swarm/heartbeat HTTP/1.1\r\n"));
        assert!(peer.heard()[0].ends_with("\r\n\r\n{}"));
        answer
    };
    let with = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    assert_eq!(ask("HTTP/1.1 204 No Content\r\n\r\n"), Ok(BeatReply::Taken));
    let said = BeatAnswer { verdicts: vec![Verdict::Applied], cancel: vec![LifecycleId::from_u128(9)] };
    assert_eq!(ask(&with("200 OK", &said.to_json())), Ok(BeatReply::Answered(said)));
    for body in ["", "[]", "{}", r#"{"verdicts": ["sure"]}"#, r#"{"verdicts": [], "cancel": [1]}"#] {
        let answer = ask(&with("200 OK", body));
        assert!(matches!(answer, Err(MasterError::Answer(_))), "{body}: {answer:?}");
    }
    for status in [202, 302, 403, 404, 422, 503] {
        let answer = ask(&with(&format!("{status} Oh"), r#"{"detail":"who?"}"#));
        assert_eq!(answer, Err(MasterError::Refused { status, reason: format!("{status}: who?") }));
    }
}

#[test]
fn a_master_that_is_not_the_one_or_does_not_answer_settles_nothing() {
    let ca = Ca::new();
    let (worker, master) = (ca.issue("w1", "127.0.0.1"), ca.issue("master", "127.0.0.1"));
    let taken = "HTTP/1.1 204 No Content\r\n\r\n";
    let wrong = Peer::answering(master.server(), taken);
    let closes = Peer::answering(master.server(), "");
    let cases = [(wrong, Pinned::Certificate(worker.fingerprint)), (closes, Pinned::CaOnly)];
    for ((peer, pin), is_wrong) in cases.into_iter().zip([true, false]) {
        let to = HttpsMaster::new(worker.identity(), &peer.address, pin).limits(soon());
        let answer = within(move || block_on(to.heartbeat("{}")));
        match answer {
            Err(MasterError::Tls(why)) if is_wrong => assert!(why.contains("not the pinned one"), "{why}"),
            Err(MasterError::Unreachable(_)) if !is_wrong => {}
            other => panic!("{other:?}"),
        }
    }
}
