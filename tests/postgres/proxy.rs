//! A proxy that cuts connections at COMMIT: before it is passed on, in the
//! middle of it, or once the server has done it and answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// As the client sends it.
const COMMIT: &[u8] = b"Q\0\0\0\x0bcommit\0";

/// The server's word that it is done.
const DONE: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never hears of it.
    Before,
    /// It hears half of it.
    Half,
    /// It does it, and nobody hears of that.
    Answer,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    server: u16,
    /// One COMMIT in so many is cut, in turn in each way; none if zero.
    one_in: AtomicU32,
    commits: AtomicU32,
    cuts: AtomicU32,
    /// Only in this way, and then nothing is let through any more.
    last: std::sync::Mutex<Option<Cut>>,
    refusing: AtomicBool,
}

impl Proxy {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            server,
            one_in: AtomicU32::new(0),
            commits: AtomicU32::new(0),
            cuts: AtomicU32::new(0),
            last: std::sync::Mutex::new(None),
            refusing: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || state.pass(client));
            }
        });
        Self { port, state }
    }

    pub fn cut_one_in(&self, commits: u32) {
        self.state.one_in.store(commits, Ordering::SeqCst);
    }

    /// Cuts the next COMMIT in this way, and refuses all that comes after.
    pub fn cut_and_refuse(&self, cut: Cut) {
        *self.state.last.lock().unwrap() = Some(cut);
    }

    pub fn let_through(&self) {
        self.state.refusing.store(false, Ordering::SeqCst);
    }

    pub fn cuts(&self) -> u32 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl State {
    /// How to cut this COMMIT, if at all.
    fn cut(&self) -> Option<Cut> {
        if let Some(cut) = self.last.lock().unwrap().take() {
            self.refusing.store(true, Ordering::SeqCst);
            return Some(cut);
        }
        let (one_in, number) =
            (self.one_in.load(Ordering::SeqCst), self.commits.fetch_add(1, Ordering::SeqCst));
        if one_in == 0 || number % one_in != 0 {
            return None;
        }
        let ways = [Cut::Answer, Cut::Before, Cut::Half];
        Some(ways[(self.cuts.fetch_add(1, Ordering::SeqCst) % 3) as usize])
    }

    fn pass(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.server)) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let mute = Arc::new(AtomicBool::new(false));
        let muted = Arc::clone(&mute);
        let back = thread::spawn(move || {
            let (mut bytes, mut unheard) = ([0; 16_384], Vec::new());
            loop {
                match from_server.read(&mut bytes) {
                    Ok(count @ 1..) if muted.load(Ordering::SeqCst) => {
                        unheard.extend_from_slice(&bytes[..count]);
                        if unheard.windows(DONE.len()).any(|window| window == DONE) {
                            break;
                        }
                    }
                    Ok(count @ 1..) if to_client.write_all(&bytes[..count]).is_ok() => {}
                    _ => break,
                }
            }
            let _ = (to_client.shutdown(Shutdown::Both), from_server.shutdown(Shutdown::Both));
        });
        let (mut bytes, mut held) = ([0; 16_384], Vec::new());
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            held.extend_from_slice(&bytes[..count]);
            let found = held.windows(COMMIT.len()).position(|window| window == COMMIT);
            let cut = found.and_then(|place| Some((place, self.cut()?)));
            // What may be the beginning of a COMMIT waits for its end.
            let begun = (1..COMMIT.len()).rev().find(|length| held.ends_with(&COMMIT[..*length]));
            let keep = if found.is_none() { begun.unwrap_or(0) } else { 0 };
            let until = match cut {
                None => held.len() - keep,
                Some((place, Cut::Before)) => place,
                Some((place, Cut::Half)) => place + COMMIT.len() / 2,
                Some((_, Cut::Answer)) => held.len(),
            };
            // What was sent before the COMMIT is answered, and so is it: none of
            // that comes back.
            if cut.is_some_and(|(_, cut)| cut == Cut::Answer) {
                mute.store(true, Ordering::SeqCst);
            }
            if server.write_all(&held[..until]).is_err() {
                break;
            }
            held.drain(..until);
            match cut {
                Some((_, Cut::Answer)) => {
                    let _ = back.join();
                    return;
                }
                Some(_) => break,
                None => {}
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        let _ = back.join();
    }
}
