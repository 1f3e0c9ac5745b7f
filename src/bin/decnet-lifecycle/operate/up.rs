//! `up`: brings everything back that is placed on this master, as after a
//! restart of the machine.

use std::sync::Arc;

use decnet_lifecycle::http::wire::left;
use serde_json::{Map, Value, json};

use super::drive::{Work, drive, finish_earlier, follow, master};

use crate::client::{RunningMaster, ids};
use crate::engines::Chosen;
use crate::home::{Home, Make};
use crate::live::Live;
use crate::output::Output;
use crate::{Complaint, Done};

pub async fn up(home: &Home, out: &Output, wait: bool) -> Result<Done, Complaint> {
    if let Some(master) = RunningMaster::find(home)? {
        let answer = master.post("/deckies/up", None, String::new()).await?;
        let left = answer.get("left").and_then(Value::as_object).cloned().unwrap_or_default();
        let ids = ids(&answer)?;
        let before = tell(out, answer.get("up").and_then(Value::as_u64).unwrap_or(0), &left);
        return match ids.is_empty() {
            true => Ok(before),
            false => Ok(worse(before, follow(home, out, &ids, &[]).await?)),
        };
    }
    let store = home.writer(Make::Never, wait.into()).await?;
    let chosen = Chosen::for_placed(home, &*store).await?;
    let live = Arc::new(Live::new(*out));
    let (runner, recovered) = master(home, &live, store.clone(), &chosen).await?;
    let restored = match runner.restore().await {
        Ok(restored) => restored,
        Err(error) => {
            finish_earlier(recovered).await;
            return Err(error.into());
        }
    };
    let before = tell(out, restored.up.len() as u64, &left(&restored));
    if restored.accepted.is_empty() {
        finish_earlier(recovered).await;
        return Ok(before);
    }
    let asked = restored.accepted.into_iter().map(Ok).collect();
    let work = Work { again: recovered, asked, refused: Vec::new() };
    Ok(worse(before, drive(home, &live, &chosen, &runner, &*store, work).await?))
}

fn tell(out: &Output, up: u64, left: &Map<String, Value>) -> Done {
    for (decky, why) in left {
        let why = why.as_str().unwrap_or_default();
        out.say(
            || json!({"event": "left", "decky": decky, "why": why}),
            || format!("{decky:<20} left as it is: {why}"),
        );
    }
    out.say(
        || json!({"event": "up", "up": up, "left": left.len()}),
        || format!("{up} run as they are placed"),
    );
    if left.is_empty() { Done::Well } else { Done::RowsFailed }
}

/// What was left as it is is no success, however the rest ends.
fn worse(before: Done, then: Done) -> Done {
    if matches!(then, Done::Well) { before } else { then }
}
