//! What the process does for its servers: limits on files, and signals.

use decnet_lifecycle::http::Stop;

use crate::Complaint;

/// Lets this process have as many files and connections as it may: a usual
/// soft limit is 1,024, and what a server needs beside its connections must
/// not fail for want of one.
pub fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        log::warn!(target: "decnet_lifecycle::http", error:% = error; "the limit on open files stays as it is");
    }
}

/// Said at the first SIGINT or SIGTERM; the second ends the program.
pub fn stop_signal() -> Result<Stop, Complaint> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Stop::new();
    let told = stop.clone();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        let mut asked = 0;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            asked += 1;
            if asked > 1 {
                std::process::exit(130);
            }
            crate::output::aside("stopping; once more to leave at once");
            told.now();
        }
    });
    Ok(stop)
}
