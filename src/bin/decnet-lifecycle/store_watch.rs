//! Watches over the store of a master or worker that stays.

use std::time::Duration;

use decnet_lifecycle::runner::StoreGone;
use decnet_lifecycle::store::{Store, StoreHealth};
use tokio::task::JoinError;

use crate::Complaint;

/// How often it is looked at when nothing is written.
const LOOK: Duration = Duration::from_secs(2);

/// Ends once the store is gone for good: whoever started the program is to
/// start it anew, or to hear of it.
pub async fn until_gone(store: &dyn Store) -> Complaint {
    loop {
        if let StoreHealth::Gone { why } = store.health() {
            return Complaint(format!("the store is gone: {why}; put it back, or start anew without it"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why nobody looks after open rows any more: a master or worker must not go on
/// as if somebody did.
pub fn unmaintained(ended: Result<StoreGone, JoinError>) -> Complaint {
    ended.map_or_else(
        |_| Complaint("looking after open rows broke, the log says why; start again".into()),
        Complaint::from,
    )
}
