//! `logs`: what a decky's services have said.

use std::sync::Arc;

use decnet_lifecycle::ServiceName;
use decnet_lifecycle::clock::SystemClock;
use decnet_lifecycle::engine::{LogLine, LogQuery};
use serde_json::json;

use crate::args::{Logs, Speaker};
use crate::engines::Chosen;
use crate::home::Home;
use crate::output::Output;
use crate::placed::looking;
use crate::{Complaint, Done};

/// Looks beside whoever runs them: engines' logs lie on this machine, also
/// those of workers that have their files here.
pub async fn logs(home: &Home, out: &Output, args: Logs) -> Result<Done, Complaint> {
    let Speaker { decky, service } = args.of;
    let is_one = service.is_some();
    let query = LogQuery::new(decky, Arc::new(SystemClock::new()))
        .service(service)
        .tail(args.tail)
        .follow(args.follow);
    let hear = |line: LogLine| {
        let service = line.service.as_ref().map_or("-", ServiceName::as_str);
        out.say(
            || json!({"event": "log", "decky": line.decky, "service": line.service, "text": line.text}),
            || if is_one { line.text.clone() } else { format!("{service:<12} {}", line.text) },
        );
    };
    let mut why = None;
    for home in std::iter::once(home).chain(home.of_workers().iter()) {
        let store = home.store_to_look_at().await?;
        let chosen = Chosen::for_placed(home, &*store).await?;
        match looking(home, &chosen, store)?.logs(&query, &hear).await {
            Ok(()) => return Ok(Done::Well),
            Err(failure) => drop(why.get_or_insert(failure)),
        }
    }
    Err(Complaint(why.map(|failure| failure.message().to_owned()).unwrap_or_default()))
}
