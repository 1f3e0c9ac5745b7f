//! Mirrors through a proxy that cuts connections at every byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use decnet_lifecycle::mirror::{Mirrored, NatsMirror};
use decnet_lifecycle::store::head;
use futures_lite::future::block_on;
use serde_json::json;

use crate::fake::settings;
use crate::server::{OPEN, Server};
use crate::store::{fill, filled};

/// Whose bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
    Nobodys,
}

/// Cuts each connection after so many bytes of one side.
struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    side: Side,
    after: usize,
    open: Vec<TcpStream>,
}

impl Proxy {
    fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { side: Side::Ours, after: 0, open: Vec::new() }));
        let theirs = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, Ok(server)) = (client.unwrap(), TcpStream::connect(("127.0.0.1", server)))
                else {
                    continue;
                };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (side, after) = {
                    let mut state = theirs.lock().unwrap();
                    state.open = vec![client.try_clone().unwrap(), server.try_clone().unwrap()];
                    (state.side, state.after)
                };
                let limit = |whose: Side| if whose == side { after } else { usize::MAX };
                let (ours, their) = (limit(Side::Ours), limit(Side::Theirs));
                let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(client, server, ours));
                std::thread::spawn(move || pass(back, forth, their));
            }
        });
        Self { port, state }
    }

    fn next(&self) {
        self.state.lock().unwrap().after += 1;
    }

    /// Counts another side's bytes from the next connection on, and cuts this one.
    fn turn(&self) -> Side {
        let mut state = self.state.lock().unwrap();
        state.side = if state.side == Side::Ours { Side::Theirs } else { Side::Nobodys };
        state.after = 0;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.side
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut left: usize) {
    let mut bytes = [0; 16_384];
    while left > 0 {
        let room = left.min(bytes.len());
        let Ok(count @ 1..) = from.read(&mut bytes[..room]) else { break };
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
        left -= count;
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn wherever_connections_are_cut_each_change_is_there_once_and_in_order() {
    let Some(server) = Server::start(OPEN) else { return };
    server.client().make_stream(json!({}));
    let proxy = Proxy::to(server.port);
    let store = filled(1);
    let mirror = NatsMirror::new(
        store.clone(),
        settings(&format!("nats://127.0.0.1:{}", proxy.port)).again_after(Duration::ZERO),
        "S",
    )
    .unwrap();
    let (mut next, mut cuts, mut turns) = (2, 0, 0);
    mirror
        .run(|now| match now {
            Mirrored::Trouble { .. } => {
                cuts += 1;
                proxy.next();
                // Something to do for the next one.
                fill(&*store, next, next + 1);
                next += 2;
                ControlFlow::Continue(())
            }
            // All that a connection says was said before it was cut.
            Mirrored::UpTo { is_all: true, .. } if proxy.state.lock().unwrap().side == Side::Nobodys => {
                ControlFlow::Break(())
            }
            Mirrored::UpTo { is_all: true, .. } => {
                turns += 1;
                proxy.turn();
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert!(turns == 2 && cuts > 1_500, "{turns} turns, {cuts} cuts");
    let last = block_on(head(&*store)).unwrap().get();
    assert_eq!(server.client().revisions(), (1..=last).collect::<Vec<_>>());
}
