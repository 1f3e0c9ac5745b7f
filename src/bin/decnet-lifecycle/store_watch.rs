//! Watches over the store of a master or worker that stays.

use std::time::Duration;

use decnet_lifecycle::store::{Store, StoreHealth};

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
