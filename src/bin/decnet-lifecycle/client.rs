//! Asks a running master of this data directory.

use std::time::Duration;

use decnet_lifecycle::lifecycle::text::json;
use decnet_lifecycle::{LifecycleId, RequestKey};
use serde_json::Value;

use crate::Complaint;
use crate::home::Home;
use crate::running::Running;
use crate::token;

/// The most bytes of an answer.
const ANSWER: u64 = 16 << 20;

/// A master that runs, and takes requests.
#[derive(Clone)]
pub struct RunningMaster {
    agent: ureq::Agent,
    base: String,
    token: String,
}

impl RunningMaster {
    /// The master that runs over this data directory, if one does. Its token
    /// goes to nobody else.
    pub fn find(home: &Home) -> Result<Option<Self>, Complaint> {
        let Some(running) = Running::find(&home.place_path())? else { return Ok(None) };
        let agent = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(2)))
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let token = token::text(&home.token_path())?;
        Ok(Some(Self { agent, base: format!("http://{}", running.api), token }))
    }

    pub async fn get(&self, path: &str) -> Result<Value, Complaint> {
        let (me, url) = (self.clone(), format!("{}{path}", self.base));
        smol::unblock(move || {
            let sent = me.agent.get(&url).header("authorization", format!("Bearer {}", me.token)).call();
            me.read(sent)
        })
        .await
    }

    pub async fn post(&self, path: &str, key: Option<&RequestKey>, body: String) -> Result<Value, Complaint> {
        let (me, url, key) = (self.clone(), format!("{}{path}", self.base), key.cloned());
        smol::unblock(move || {
            let mut request = me
                .agent
                .post(&url)
                .header("authorization", format!("Bearer {}", me.token))
                .header("content-type", "application/json");
            if let Some(key) = key {
                request = request.header("idempotency-key", key.as_str());
            }
            me.read(request.send(body))
        })
        .await
    }

    fn read(&self, sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Complaint> {
        let complain = |what: String| Complaint(format!("the master on {}: {what}", self.base));
        let mut response = sent.map_err(|error| complain(error.to_string()))?;
        let body = response.body_mut().with_config().limit(ANSWER).read_to_vec();
        let body = body.map_err(|error| complain(error.to_string()))?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if response.status().is_success() {
            return Ok(value);
        }
        let detail =
            value.get("detail").map(|detail| detail.as_str().map_or_else(|| json(detail), str::to_owned));
        Err(complain(detail.unwrap_or_else(|| response.status().to_string())))
    }
}

/// The rows that an answer names.
pub fn ids(answer: &Value) -> Result<Vec<LifecycleId>, Complaint> {
    let ids = answer.get("lifecycle_ids").and_then(Value::as_array);
    let ids = ids.and_then(|ids| ids.iter().map(|id| id.as_str()?.parse().ok()).collect::<Option<Vec<_>>>());
    ids.ok_or_else(|| Complaint(format!("the master's answer names no rows: {}", json(answer))))
}
