//! What stands between a worker and its master: loses beats and answers,
//! doubles beats, and lets old ones come late.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use decnet_lifecycle::agent::https::Identity;
use rustls::{ServerConnection, StreamOwned};

use crate::processes::{Data, connect_tls};

/// Long enough for a master that lives.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Proxy {
    pub address: SocketAddr,
    /// Without, all goes through.
    pub is_wild: Arc<AtomicBool>,
}

struct Between {
    data: Arc<Data>,
    host: String,
    master: SocketAddr,
    is_wild: Arc<AtomicBool>,
    dice: Mutex<fastrand::Rng>,
    /// Beats that come late.
    late: Mutex<Vec<Vec<u8>>>,
}

impl Proxy {
    /// Takes a host's beats to the master, as that host.
    pub fn start(data: &Arc<Data>, host: &str, master: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_wild = Arc::new(AtomicBool::new(true));
        let between = Arc::new(Between {
            data: Arc::clone(data),
            host: host.to_owned(),
            master,
            is_wild: Arc::clone(&is_wild),
            dice: Mutex::new(fastrand::Rng::with_seed(seed)),
            late: Mutex::default(),
        });
        // To the worker it is the master.
        let config = Identity::load(&data.bundle("master")).unwrap().server_config().unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (between, config) = (Arc::clone(&between), Arc::clone(&config));
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let conn = ServerConnection::new(config).unwrap();
                    between.pass(&mut StreamOwned::new(conn, stream));
                });
            }
        });
        Self { address, is_wild }
    }
}

impl Between {
    fn pass(&self, worker: &mut StreamOwned<ServerConnection, TcpStream>) {
        let Some(beat) = read_request(worker) else { return };
        let roll = match self.is_wild.load(Ordering::SeqCst) {
            true => self.dice.lock().unwrap().u8(..100),
            false => 99,
        };
        // What was held back comes now, before what is newer.
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let answer = match roll {
            // It is lost.
            0..15 => return,
            // Its answer is lost.
            15..30 => {
                self.forward(&beat);
                return;
            }
            // It comes again, much later.
            30..40 => {
                self.late.lock().unwrap().push(beat.clone());
                self.forward(&beat)
            }
            // It comes twice at once.
            40..50 => {
                self.forward(&beat);
                self.forward(&beat)
            }
            _ => self.forward(&beat),
        };
        for old in late {
            self.forward(&old);
        }
        if let Some(answer) = answer {
            let _ = worker.write_all(&answer);
            worker.conn.send_close_notify();
            let _ = worker.flush();
        }
    }

    fn forward(&self, request: &[u8]) -> Option<Vec<u8>> {
        // The master may be dead just now.
        TcpStream::connect(self.master).ok()?;
        let ca = self.data.path("pki/ca.crt");
        let mut tls = connect_tls(self.master, &ca, Some(&self.data.bundle(&self.host)));
        tls.sock.set_read_timeout(Some(PATIENCE)).ok()?;
        let text = String::from_utf8_lossy(request).replacen("\r\n", "\r\nconnection: close\r\n", 1);
        tls.write_all(text.as_bytes()).ok()?;
        let mut answer = Vec::new();
        let _ = tls.read_to_end(&mut answer);
        (!answer.is_empty()).then_some(answer)
    }
}

fn read_request(worker: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut bytes = vec![0; 16 << 10];
    loop {
        let read = worker.read(&mut bytes).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(bytes.get(..read)?);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(request);
        }
    }
}
