//! The word that it is time to stop.

use tokio::sync::watch;

/// Tells servers, and whoever follows the feed, to come to an end. All clones
/// are one; it is said once.
///
/// ```
/// use decnet_lifecycle::http::Stop;
///
/// # futures_lite::future::block_on(async {
/// let stop = Stop::new();
/// let asked = stop.asked(); // for `with_graceful_shutdown`, say
/// stop.now();
/// asked.await;
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Nothing is to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Stops, from now on.
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    /// Resolves once it is time to stop. Cancel-safe.
    pub fn asked(&self) -> impl Future<Output = ()> + Send + 'static {
        let tell = self.0.clone();
        async move {
            // Who waits here keeps it from being the last.
            let _ = tell.subscribe().wait_for(|stop| *stop).await;
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
