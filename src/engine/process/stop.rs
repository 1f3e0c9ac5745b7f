//! Stops one decoy.

use std::io;

use futures_lite::FutureExt as _;

use crate::engine::Work;
use crate::lifecycle::Failure;

use super::files::Files;
use super::knock;
use super::settings::{PATIENCE, STEP, Setup, engine_failure};

/// Takes a decoy's token away and waits until it no longer lives.
pub(super) async fn gone(setup: &Setup, work: &Work, files: &Files) -> Result<(), Failure> {
    let _turn = setup.stops.acquire().await;
    let failed = |error: &io::Error| setup.failed(error);
    files.stop().map_err(|error| failed(&error))?;
    let since = work.clock.monotonic();
    while files.is_alive().map_err(|error| failed(&error))? {
        let decoy = files.ready().ok().flatten();
        let waited = work.clock.monotonic().saturating_sub(since);
        let Some(left) = PATIENCE.checked_sub(waited).filter(|left| !left.is_zero()) else {
            let who = decoy.map_or_else(
                || files.base().display().to_string(),
                |decoy| format!("{} on {} (process {})", decoy.service, decoy.addr, decoy.pid),
            );
            return Err(engine_failure(format!("{who} does not stop; look at it and end it by hand")));
        };
        if let Some(decoy) = decoy {
            knock::wake(decoy.addr).or(work.clock.sleep(left)).await;
            if !files.is_alive().map_err(|error| failed(&error))? {
                break;
            }
        }
        work.clock.sleep(STEP).await;
    }
    files.forget_ready().map_err(|error| failed(&error))
}
