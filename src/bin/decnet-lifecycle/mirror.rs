//! `mirror`: the feed in a stream of JetStream.

use std::ops::ControlFlow;

use decnet_lifecycle::lifecycle::Revision;
use decnet_lifecycle::mirror::{Mirrored, NatsMirror};
use serde_json::json;

use crate::args::Mirror;
use crate::home::Home;
use crate::output::Output;
use crate::{Complaint, Done};

pub async fn mirror(home: &Home, out: &Output, args: Mirror) -> Result<Done, Complaint> {
    let settings = crate::buses::nats(&args.url)?;
    let store = home.reader().await?;
    let (stream, is_once, out) = (args.stream, args.once, *out);
    let mut mirror = NatsMirror::new(store, settings, &stream)?;
    if let Some(revision) = args.from {
        mirror = mirror.start_after(Revision::new(revision));
    }
    let mut told = Told { out, stream, is_once, upto: None, trouble: String::new() };
    smol::unblock(move || mirror.run(|now| told.tell(now))).await?;
    Ok(Done::Well)
}

/// What was said of it last.
struct Told {
    out: Output,
    stream: String,
    is_once: bool,
    upto: Option<Revision>,
    trouble: String,
}

impl Told {
    fn tell(&mut self, now: Mirrored) -> ControlFlow<()> {
        match now {
            Mirrored::Following { server, after } => {
                (self.trouble, self.upto) = (String::new(), None);
                self.out.say(
                    || json!({"event": "mirroring", "server": server, "stream": self.stream, "after": after}),
                    || format!("mirroring into stream {} of {server}, after revision {after}", self.stream),
                );
            }
            Mirrored::UpTo { revision, is_all: true } => {
                if self.upto.replace(revision) != Some(revision) {
                    self.out.say(
                        || json!({"event": "mirrored", "stream": self.stream, "revision": revision}),
                        || format!("stream {} has all up to revision {revision}", self.stream),
                    );
                }
                if self.is_once {
                    return ControlFlow::Break(());
                }
            }
            // Once for each kind of trouble, not for each try.
            Mirrored::Trouble { words } if words != self.trouble => {
                crate::output::aside(&format!("trouble: {words}; trying again"));
                self.trouble = words;
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
