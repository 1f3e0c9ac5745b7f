//! What goes over the wire, byte by byte, and under which runtimes.

use decnet_lifecycle::agent::Agents as _;
use decnet_lifecycle::agent::https::HttpsAgents;
use futures_lite::future::block_on;

use crate::tls::{Ca, Peer};
use crate::{deploy_call, host, mutate_call, teardown_call};

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 21\r\n\r\n{\"status\":\"accepted\"}";
const ID: &str = "00000000-0000-0000-0000-000000000007";

fn request(path: &str, address: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\ncontent-length: {}\r\nuser-agent: decnet-lifecycle/{}\r\naccept: */*\r\nhost: {address}\r\ncontent-type: application/json\r\n\r\n{body}",
        body.len(),
        env!("CARGO_PKG_VERSION")
    )
}

#[test]
fn requests_are_the_original_s_and_ids_beside() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let agents = HttpsAgents::new(master.identity());
    let host = host(&peer.address, decnet_lifecycle::agent::Pin::Certificate(worker.fingerprint));
    block_on(agents.deploy(&host, &deploy_call())).unwrap();
    block_on(agents.mutate(&host, &mutate_call())).unwrap();
    let compact = serde_json::to_string(&*deploy_call().config).unwrap();
    let heard = peer.heard();
    let deploy = format!(
        r#"{{"config":{compact},"dry_run":false,"no_cache":false,"lifecycle_ids":{{"decky-02":"00000000-0000-0000-0000-000000000008"}}}}"#
    );
    assert_eq!(heard[0], request("/deploy", &peer.address, &deploy));
    let mutate = format!(
        r#"{{"decky_id":"decky-01","services":["ssh","http"],"dry_run":false,"lifecycle_ids":{{"decky-01":"{ID}"}}}}"#
    );
    assert_eq!(heard[1], request("/mutate", &peer.address, &mutate));

    let down = Peer::answering(
        worker.server(),
        "HTTP/1.1 200 OK\r\ncontent-length: 44\r\n\r\n{\"status\":\"torn_down\",\"decky_id\":\"decky-01\"}",
    );
    let host = crate::host(&down.address, decnet_lifecycle::agent::Pin::CaOnly);
    block_on(agents.teardown(&host, &teardown_call())).unwrap();
    let teardown = format!(r#"{{"decky_id":"decky-01","lifecycle_ids":{{"decky-01":"{ID}"}}}}"#);
    assert_eq!(down.heard()[0], request("/teardown", &down.address, &teardown));
}

#[test]
fn calls_work_under_any_runtime() {
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    let agents = HttpsAgents::new(master.identity());
    let host = host(&peer.address, decnet_lifecycle::agent::Pin::CaOnly);
    let call = async || agents.mutate(&host, &mutate_call()).await.unwrap();
    block_on(call());
    smol::block_on(call());
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(call());
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(call());
    assert_eq!(peer.heard().len(), 4);
}

/// Neither `HTTPS_PROXY` nor its kin is looked at: seen from a child that has
/// them set to where nobody listens.
#[test]
fn no_proxy_is_asked() {
    const NAME: &str = "requests::no_proxy_is_asked";
    if std::env::var_os("HTTPS_PROXY").is_none_or(|proxy| proxy != "http://127.0.0.1:9") {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
            child.env(variable, "http://127.0.0.1:9");
        }
        let child =
            child.env_remove("NO_PROXY").env_remove("no_proxy").args(["--exact", NAME]).output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let ca = Ca::new();
    let (master, worker) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let peer = Peer::answering(worker.server(), ACCEPTED);
    assert_eq!(crate::mutate(master.identity(), &peer.address, decnet_lifecycle::agent::Pin::CaOnly), Ok(()));
}
