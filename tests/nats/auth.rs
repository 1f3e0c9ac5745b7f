//! Who one is to a server, and who it is: on the real one.

use std::ops::ControlFlow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use decnet_lifecycle::bus::nats::NatsSettings;
use decnet_lifecycle::mirror::{Mirrored, NatsMirror};
use decnet_lifecycle::store::MemoryStore;
use serde_json::{Value, json};

use crate::server::{Server, private};
use crate::tls::Ca;

/// Whether one is let in: then what is missing is JetStream.
fn is_let_in(settings: NatsSettings) -> Result<(), String> {
    let mirror = NatsMirror::new(Arc::new(MemoryStore::new()), settings, "S").unwrap();
    let mut trouble = None;
    let ended = mirror.run(|now| {
        if let Mirrored::Trouble { words } = now {
            trouble = Some(words);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    match (ended, trouble) {
        (Err(error), _) if error.to_string().contains("no JetStream") => Ok(()),
        (Err(error), _) => Err(error.to_string()),
        (Ok(()), trouble) => Err(trouble.unwrap()),
    }
}

fn url(server: &Server, rest: &str) -> NatsSettings {
    let (credentials, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    format!("nats://{credentials}127.0.0.1:{}?{parameters}", server.port).parse().unwrap()
}

fn refused(settings: NatsSettings) -> String {
    let said = is_let_in(settings).unwrap_err();
    assert!(!said.contains("hunter2"), "{said}");
    said
}

#[test]
fn a_user_with_a_password_and_who_has_a_token_are_let_in() {
    let Some(server) = Server::start("authorization { user: \"de:cnet\", password: \"hunter2/@\" }") else {
        return;
    };
    is_let_in(url(&server, "de%3Acnet:hunter2%2F%40@")).unwrap();
    is_let_in(url(&server, "de%3Acnet@").password("hunter2/@")).unwrap();
    for wrong in ["", "de%3Acnet:hunter2@", "hunter2@", "x:hunter2%2F%40@"] {
        assert!(refused(url(&server, wrong)).contains("Authorization Violation"));
    }
    let Some(server) = Server::start("authorization { token: \"hunter2\" }") else { return };
    is_let_in(url(&server, "hunter2@")).unwrap();
    is_let_in(url(&server, "").token("hunter2")).unwrap();
    assert!(refused(url(&server, "hunter22@")).contains("Authorization Violation"));
}

/// A key of an operator, an account or a user.
struct Key {
    pair: rcgen::KeyPair,
    kind: u8,
}

impl Key {
    /// Of a kind whose names start with this letter.
    fn new(letter: u8) -> Self {
        Self { pair: rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), kind: letter - b'A' }
    }

    fn name(&self) -> String {
        checked(&[&[self.kind << 3], self.pair.public_key_raw()].concat())
    }

    fn seed(&self) -> String {
        let pkcs8 = self.pair.serialize_der();
        // The key is the first string of 32 bytes in it.
        let at = pkcs8.windows(2).position(|window| window == [0x04, 0x20]).unwrap() + 2;
        let head = [(18 << 3) | (self.kind >> 2), (self.kind & 3) << 6];
        checked(&[&head[..], &pkcs8[at..at + 32]].concat())
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        use rcgen::SigningKey as _;
        self.pair.sign(text.as_bytes()).unwrap()
    }

    /// A JWT of this key's about another.
    fn says(&self, of: &Self, kind: &str, more: Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut nats = json!({"type": kind, "version": 2});
        for (key, value) in more.as_object().unwrap() {
            nats[key] = value.clone();
        }
        let claims = json!({"jti": "x", "iat": 1_767_225_600, "iss": self.name(), "name": kind, "sub": of.name(),
            "nats": nats});
        let text = format!("{}.{}", encode(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), encode(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(&text));
        format!("{text}.{signature}")
    }
}

/// In base32, with its checksum.
fn checked(bytes: &[u8]) -> String {
    let mut sum = 0_u16;
    for byte in bytes {
        sum ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 };
        }
    }
    let bits: String = bytes.iter().chain(&sum.to_le_bytes()).map(|byte| format!("{byte:08b}")).collect();
    let letters = bits.as_bytes().chunks(5).map(|five| {
        let five = format!("{:0<5}", std::str::from_utf8(five).unwrap());
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from_str_radix(&five, 2).unwrap()])
    });
    letters.collect()
}

#[test]
fn who_has_a_creds_file_is_let_in_and_nobody_else_reads_it() {
    let (operator, account, user) = (Key::new(b'O'), Key::new(b'A'), Key::new(b'U'));
    let everything = json!({"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1,
        "payload": -1, "wildcards": true});
    let config = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}",
        operator.says(&operator, "operator", json!({})),
        account.name(),
        operator.says(&account, "account", json!({"limits": everything})),
    );
    let Some(server) = Server::start(&config) else { return };
    let jwt = account.says(&user, "user", json!({"subs": -1, "data": -1, "payload": -1}));
    let creds = |jwt: &str, seed: &str| {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n***\n"
        )
    };
    let path = server.dir.path().join("user.creds");
    let set = format!("?creds={}", path.display());
    private(&path, &creds(&jwt, &user.seed()));
    is_let_in(url(&server, &set)).unwrap();
    assert!(refused(url(&server, "")).contains("Authorization Violation"));
    // Another's key does not prove it.
    private(&path, &creds(&jwt, &Key::new(b'U').seed()));
    assert!(refused(url(&server, &set)).contains("Authorization Violation"));
    // What is read anew is what counts.
    let settings = url(&server, &set);
    private(&path, &creds(&jwt, &user.seed()));
    is_let_in(settings).unwrap();
    let mut damaged = user.seed();
    damaged.replace_range(20..21, if &damaged[20..21] == "A" { "B" } else { "A" });
    for (text, words) in [
        (creds(&jwt, &damaged), "no user's seed"),
        (creds(&jwt, &account.seed()), "no user's seed"),
        (creds(&jwt, &user.name()), "no user's seed"),
        (creds("a\"b", &user.seed()), "its JWT is none"),
        (user.seed(), "no block NATS USER JWT"),
        (format!("-----BEGIN NATS USER JWT-----\n{jwt}\n"), "no block USER NKEY SEED"),
        ("x".repeat(70_000), "credentials take less"),
    ] {
        private(&path, &text);
        let said = format!("nats://h{set}").parse::<NatsSettings>().unwrap_err().to_string();
        assert!(said.contains(words) && !said.contains(&user.seed()[5..]), "{said}");
    }
    private(&path, &creds(&jwt, &user.seed()));
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = format!("nats://h{set}").parse::<NatsSettings>().unwrap_err().to_string();
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn a_server_is_known_by_its_ca_and_its_name() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (bundle, elsewhere) = (ca.issue("n1", "127.0.0.1"), ca.issue("n2", "192.0.2.1"));
    let config = |dir: &std::path::Path| {
        let dir = dir.display();
        format!("tls {{ cert_file: \"{dir}/worker.crt\", key_file: \"{dir}/worker.key\" }}")
    };
    let Some(server) = Server::start(&config(&bundle.dir)) else { return };
    let trusting = |scheme: &str, server: &Server, dir: &std::path::Path| -> NatsSettings {
        format!("{scheme}://127.0.0.1:{}?ca={}/ca.crt", server.port, dir.display()).parse().unwrap()
    };
    for scheme in ["nats", "tls"] {
        is_let_in(trusting(scheme, &server, &bundle.dir)).unwrap();
        let stranger = other.issue(scheme, "127.0.0.1");
        assert!(refused(trusting(scheme, &server, &stranger.dir)).contains("shaking hands"));
    }
    assert!(refused(url(&server, "")).contains("name the file of the CA"));
    assert!(refused(url(&server, "?tls=off")).contains("TLS alone"));
    let Some(misnamed) = Server::start(&config(&elsewhere.dir)) else { return };
    assert!(refused(trusting("tls", &misnamed, &bundle.dir)).contains("shaking hands"));
    // One that doesn't speak it is not spoken to in the clear.
    let Some(clear) = Server::start("authorization { token: \"hunter2\" }") else { return };
    assert!(refused(trusting("tls", &clear, &bundle.dir)).contains("does not speak TLS"));
    is_let_in(trusting("nats", &clear, &bundle.dir).token("hunter2")).unwrap();
    for (file, words) in [("worker.key", "no certificate"), ("none", "No such file")] {
        let wrong = format!("tls://h?ca={}/{file}", bundle.dir.display()).parse::<NatsSettings>();
        let said = wrong.unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}

/// What isn't allowed is told as such.
#[test]
fn who_may_not_ask_is_told_what_for() {
    let config = "jetstream { store_dir: \"DIR\" }\n\
        authorization { users: [ { user: u, password: p, permissions: { publish: \"decnet.>\" } } ] }";
    let Some(server) = Server::start(config) else { return };
    let said = refused(url(&server, "u:p@"));
    assert!(said.contains("Permissions Violation") && said.contains("$JS.API.STREAM.INFO.S"), "{said}");
}
