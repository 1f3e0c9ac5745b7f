//! What happens, as it happens: watch, bus tap.

use std::path::PathBuf;
use std::sync::Arc;

use decnet_lifecycle::lifecycle::text::{json, one_line};
use decnet_lifecycle::store::{Entry, head};
use decnet_lifecycle::{
    bus::unix as unix_bus,
    clock::SystemClock,
    lifecycle::Revision,
    runner::{Seen, Watch},
};

use crate::args;
use crate::home::Home;
use crate::output::Output;
use crate::{Complaint, Done};

/// The most characters of a topic.
const TOPIC: usize = 300;

pub async fn watch(home: &Home, out: &Output, args: args::Watch) -> Result<Done, Complaint> {
    let store = home.reader().await?;
    let after = match args.from {
        Some(from) => Revision::new(from),
        None => head(&*store).await?,
    };
    let is_wanted = |entry: &Entry| {
        (args.deckies.is_empty() || args.deckies.contains(&entry.decky))
            && args.host.as_ref().is_none_or(|host| entry.host.as_ref() == Some(host))
    };
    if !out.is_json() {
        crate::output::aside(&format!("from revision {after} on; Ctrl-C ends it"));
    }
    let mut watch = Watch::new(store, Arc::new(SystemClock::new()), after);
    loop {
        match watch.next().await? {
            Seen::Changed(entry) if is_wanted(&entry) => out.change_at(&entry),
            Seen::Changed(_) => {}
            Seen::Ahead { head } => out.say(
                || serde_json::json!({"event": "reset", "head": head}),
                || format!("(the store ends before that, at revision {head}; following from there)"),
            ),
            Seen::Compacted { oldest } => out.say(
                || serde_json::json!({"event": "compacted", "oldest": oldest}),
                || format!("(changes before revision {oldest} have been pruned)"),
            ),
        }
    }
}

pub async fn tap(out: &Output, pattern: &str, socket: Option<PathBuf>) -> Result<Done, Complaint> {
    let socket = socket.unwrap_or_else(unix_bus::default_socket);
    let mut tap = unix_bus::UnixTap::connect(socket, "decnet-lifecycle-tap", pattern).await?;
    loop {
        let heard = tap.next().await?;
        out.say(
            || serde_json::json!({"event": "heard", "id": heard.id, "topic": heard.topic, "type": heard.kind, "ts": heard.ts, "payload": heard.payload}),
            || format!("{}  {}", one_line(&heard.topic, TOPIC), json(&heard.payload)),
        );
    }
}
