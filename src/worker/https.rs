//! The master as a worker reaches it over HTTPS.

use async_trait::async_trait;

use crate::agent::Pins;
use crate::agent::https::{CallError, CallLimits, HttpsClient, Identity, Peer, TlsVersions, reason};
use crate::beat::{Beat, BeatAnswer};

use super::{BeatReply, Master, MasterError};

/// The master over HTTPS: `POST https://ADDRESS/swarm/heartbeat`, both ends
/// with certificates of one CA.
///
/// ```no_run
/// use decnet_lifecycle::agent::Pin;
/// use decnet_lifecycle::agent::https::Identity;
/// use decnet_lifecycle::worker::{HttpsMaster, Worker};
///
/// # async fn beat(worker: Worker) -> Result<(), Box<dyn std::error::Error>> {
/// let identity = Identity::load("pki/w1".as_ref())?;
/// worker.beats(&HttpsMaster::new(identity, "192.0.2.1:8770", Pin::CaOnly)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct HttpsMaster {
    client: HttpsClient,
    peer: Peer,
}

impl HttpsMaster {
    /// The master at this `host:port`, which must show a certificate that the
    /// pins admit.
    #[must_use]
    pub fn new(identity: Identity, address: impl Into<String>, pins: impl Into<Pins>) -> Self {
        let mut client = HttpsClient::new(identity);
        client.limits.body_bytes = Beat::USUAL_BYTES;
        Self { client, peer: Peer { address: address.into(), pins: pins.into() } }
    }

    /// Bounds on time. Without: [`CallLimits::default`].
    #[must_use]
    pub const fn limits(mut self, limits: CallLimits) -> Self {
        self.client.limits = CallLimits { body_bytes: Beat::USUAL_BYTES, ..limits };
        self
    }

    /// Versions of TLS. Without: 1.3 alone.
    #[must_use]
    pub const fn tls(mut self, versions: TlsVersions) -> Self {
        self.client.versions = versions;
        self
    }
}

#[async_trait]
impl Master for HttpsMaster {
    async fn heartbeat(&self, body: &str) -> Result<BeatReply, MasterError> {
        let sent =
            self.client.post(self.peer.clone(), "/swarm/heartbeat", body.to_owned(), |status| status != 204);
        let reply = sent.await.map_err(|error| match error {
            CallError::Unreachable(reason) | CallError::Unconfirmed(reason) => {
                MasterError::Unreachable(reason)
            }
            CallError::Tls(reason) => MasterError::Tls(reason),
            CallError::WrongPin(seen) => {
                MasterError::Tls(format!("it showed the certificate {seen}, which is not the pinned one"))
            }
        })?;
        match reply.status {
            204 => Ok(BeatReply::Taken),
            200 => Ok(BeatReply::Answered(BeatAnswer::from_json(&reply.body)?)),
            status => Err(MasterError::Refused { status, reason: reason(status, &reply.body) }),
        }
    }
}
