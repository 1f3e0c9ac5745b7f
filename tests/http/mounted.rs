//! Routes among those of an embedder: who may ask what, and what is left to it.

use std::io::Read as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use decnet_lifecycle::HostId;
use decnet_lifecycle::agent::{Fingerprint, Host, Pin, StaticHosts};
use decnet_lifecycle::http::{self, Access, Caller, PeerCertificate, Stop, Swarm, Token};

use crate::processes::HANGS;
use crate::{FLEET, TOKEN, ask, begun, loopback, off, processes, runner, serve};

fn token() -> Token {
    Token::parse(TOKEN).unwrap()
}

#[tokio::test]
async fn the_api_among_other_routes_guards_its_own_and_no_others() {
    let api = http::api(runner().await, Access::Bearer(token().found_in("a safe")));
    let own = Router::new().route("/own", get("mine")).fallback(async || "also mine");
    let merged = serve(loopback().await, own.clone().merge(Router::from(api.clone())), &Stop::new());
    let nested = serve(loopback().await, own.nest("/decoys", api.clone().into()), &Stop::new());
    let alone = serve(loopback().await, api.alone(), &Stop::new());
    let bearer = format!("Bearer {TOKEN}");
    let with = [("authorization", bearer.as_str())];
    for (address, prefix) in [(merged.address, ""), (nested.address, "/decoys"), (alone.address, "")] {
        let (status, body) = ask(address, "GET", &format!("{prefix}/deckies"), &[]).await;
        assert_eq!(status, 401);
        for wrong in [&format!("{bearer}0"), TOKEN, "Bearer ", &format!("Basic {TOKEN}")] {
            let with = [("authorization", wrong)];
            assert_eq!(ask(address, "GET", &format!("{prefix}/deckies"), &with).await.0, 401, "{wrong}");
        }
        assert!(body.contains("the token is in a safe") && !body.contains(TOKEN), "{body}");
        assert_eq!(ask(address, "GET", &format!("{prefix}/deckies"), &with).await.1, r#"{"deckies":[]}"#);
        assert_eq!(ask(address, "GET", &format!("{prefix}/healthz"), &[]).await.0, 200);
        assert_eq!(ask(address, "PUT", &format!("{prefix}/deckies"), &with).await.0, 405);
    }
    for address in [merged.address, nested.address] {
        assert_eq!(ask(address, "GET", "/own", &[]).await, (200, "mine".into()));
        assert_eq!(ask(address, "GET", "/nothing", &[]).await, (200, "also mine".into()));
    }
    // Alone it tells nobody what there is not.
    assert_eq!(ask(alone.address, "GET", "/nothing", &[]).await.0, 401);
    assert_eq!(ask(alone.address, "GET", "/nothing", &with).await.0, 404);
}

#[tokio::test]
async fn a_caller_that_others_have_checked_needs_no_token_and_no_body_is_longer_than_said() {
    let api = http::api(runner().await, Access::Checked).body_bytes(FLEET.len());
    let served = serve(loopback().await, api, &Stop::new());
    let deploy = processes::request("POST", "/deckies/deploy?dry_run=1", &[], FLEET);
    let longer = processes::request("POST", "/deckies/deploy?dry_run=1", &[], &format!("{FLEET} "));
    let address = served.address;
    let [plan, refused] =
        off(move || [deploy, longer].map(|request| processes::ask(address, &request).status)).await;
    assert_eq!((plan, refused), (200, 413));
}

#[test]
fn what_is_no_token_is_none() {
    for text in
        ["", " ", "0123456789", "0123456789abcdef0123456789abcdé", "0123456789abcdef 0123456789abcdef"]
    {
        assert!(Token::parse(text).is_err(), "{text:?}");
    }
    let token = Token::parse(&format!(" {TOKEN}\n")).unwrap();
    assert!(token.is(TOKEN) && !token.is("") && !token.is(&TOKEN.replace('f', "e")));
    assert!(!format!("{token:?}").contains("0123"));
}

/// An embedder's own handshake: who says `x-shows: a` has shown the certificate `a`.
async fn shown(mut request: Request, next: Next) -> Response {
    if let Some(shown) = request.headers().get("x-shows").cloned() {
        request.extensions_mut().insert(PeerCertificate::new(shown.as_bytes()));
    }
    next.run(request).await
}

async fn swarm() -> Swarm {
    let pin = Pin::Certificate(Fingerprint::of(b"of w1"));
    let host = Host { id: HostId::parse("w1").unwrap(), address: "127.0.0.1:1".into(), pin };
    http::swarm(runner().await, Arc::new(StaticHosts::new([host])))
}

#[tokio::test]
async fn only_hosts_are_heard_and_each_is_who_its_certificate_says() {
    let swarm = swarm().await;
    let own = swarm.guard(Router::new().route(
        "/swarm/whoami",
        post(async |request: Request| request.extensions().get::<Caller>().unwrap().0.id.to_string()),
    ));
    let api = http::api(runner().await, Access::Checked).swarm(&swarm);
    let routes = own.merge(Router::from(swarm.clone())).layer(from_fn(shown)).merge(Router::from(api));
    let served = serve(loopback().await, routes, &Stop::new());
    let address = served.address;
    assert_eq!(ask(address, "POST", "/swarm/whoami", &[("x-shows", "of w1")]).await, (200, "w1".to_owned()));
    for path in ["/swarm/whoami", "/swarm/heartbeat"] {
        for headers in [&[("x-shows", "of w2")][..], &[]] {
            let (status, body) = ask(address, "POST", path, headers).await;
            assert_eq!(status, 403, "{body}");
            assert!(body.contains("is no host's"), "{body}");
        }
    }
    // Before a byte of the body has come.
    let head =
        "POST /swarm/heartbeat HTTP/1.1\r\nhost: here\r\nx-shows: of w2\r\ncontent-length: 1000\r\n\r\n";
    let (mut rest, line) = off(move || begun(address, head)).await;
    assert!(line.starts_with("HTTP/1.1 403 "), "{line}");
    let mut rest_of_it = String::new();
    off(move || rest.read_to_string(&mut rest_of_it).map(drop)).await.unwrap();

    let (status, _) = ask(address, "POST", "/swarm/heartbeat", &[("x-shows", "of w1")]).await;
    assert_eq!((status, swarm.beats(), swarm.beats_refused()), (422, 0, 6));
    let beat = r#"{"host_uuid": "w1", "agent_version": "1", "executed": false, "status": {}}"#;
    let beat = processes::request("POST", "/swarm/heartbeat", &[("x-shows", "of w1")], beat);
    let heard = off(move || processes::ask(address, &beat)).await;
    assert_eq!((heard.status, swarm.beats()), (204, 1), "{heard:?}");
    let (_, metrics) = ask(address, "GET", "/metrics", &[]).await;
    assert!(metrics.contains("\ndecnet_lifecycle_beats_total 1\n"), "{metrics}");
    assert!(metrics.contains("\ndecnet_lifecycle_beats_refused_total 6\n"), "{metrics}");
}

#[tokio::test]
async fn who_follows_the_feed_is_let_go_under_a_server_of_one_s_own() {
    let stop = Stop::new();
    let api = http::api(runner().await, Access::Checked).stop(&stop).feeds(1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = axum::serve(listener, Router::from(api)).with_graceful_shutdown(stop.asked());
    let served = tokio::spawn(served.into_future());
    let feed = processes::request("GET", "/lifecycle/feed", &[], "");
    let (mut follower, line) = off(move || begun(address, &feed)).await;
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    assert_eq!(ask(address, "GET", "/lifecycle/feed", &[]).await.0, 503);
    stop.now();
    let served = tokio::time::timeout(HANGS, served).await;
    served.expect("it waits for who follows the feed").unwrap().unwrap();
    let rest = off(move || {
        let mut rest = String::new();
        follower.read_to_string(&mut rest).map(|_| rest)
    });
    assert!(rest.await.unwrap().ends_with("0\r\n\r\n"));
}
