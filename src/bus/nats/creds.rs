//! A `.creds` file: who an account says that one is, and the key that proves it.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;

/// The most bytes of the file.
const FILE: u64 = 64 << 10;

/// What stands before the 32 bytes of an Ed25519 key in PKCS #8.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The first two bytes of a user's seed: the five bits of `S` and of `U`.
const USER_SEED: [u8; 2] = [(18 << 3) | (20 >> 2), (20 & 0x3) << 6];

/// A user's JWT and key.
pub(super) struct Creds {
    pub(super) jwt: String,
    key: std::sync::Arc<dyn SigningKey>,
}

impl fmt::Debug for Creds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Creds(..)")
    }
}

impl Creds {
    /// Reads the file, which nobody but its owner may read. What is wrong with
    /// it is told, and nothing of what it says.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let failed = |what: String| format!("credentials {}: {what}", path.display());
        #[cfg(unix)]
        crate::private_file::check_private(path, crate::private_file::Secrecy::Secret)
            .map_err(|error| format!("credentials: {error}"))?;
        let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if size > FILE {
            return Err(failed(format!("it has {size} bytes, credentials take less than {FILE}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text).map_err(|what| failed(what.to_owned()))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let jwt = block(text, "NATS USER JWT").ok_or("it has no block NATS USER JWT")?;
        let seed = block(text, "USER NKEY SEED").ok_or("it has no block USER NKEY SEED")?;
        if !jwt.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err("its JWT is none");
        }
        let seed = seed_bytes(&seed).ok_or("its seed is no user's seed (SU..), or was damaged")?;
        let pkcs8 = [&PKCS8[..], &seed].concat();
        let key =
            any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(|_| "its key is none")?;
        Ok(Self { jwt, key })
    }

    /// The signature of what a server wants to have signed, as it is sent.
    pub(super) fn sign(&self, nonce: &str) -> Option<String> {
        let signer = self.key.choose_scheme(&[SignatureScheme::ED25519])?;
        Some(URL_SAFE_NO_PAD.encode(signer.sign(nonce.as_bytes()).ok()?))
    }
}

/// What stands between the lines `-----BEGIN NAME-----` and `------END NAME------`.
fn block(text: &str, name: &str) -> Option<String> {
    let is_edge = |line: &str, word: &str| {
        line.trim().trim_matches('-').trim().strip_prefix(word).is_some_and(|rest| rest.trim() == name)
    };
    let mut lines = text.lines().skip_while(|line| !is_edge(line, "BEGIN")).skip(1);
    let inner: String =
        lines.by_ref().take_while(|line| !line.trim().starts_with("---")).map(str::trim).collect();
    (!inner.is_empty()).then_some(inner)
}

/// The key of a user's seed, if it is one and its checksum says so.
fn seed_bytes(text: &str) -> Option<[u8; 32]> {
    let bytes = base32(text)?;
    let (said, sum) = bytes.split_last_chunk::<2>()?;
    let key = said.strip_prefix(&USER_SEED)?;
    (crc16(said) == u16::from_le_bytes(*sum)).then_some(())?;
    key.try_into().ok()
}

/// Base32 as RFC 4648 has it, without padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0_u32, Vec::new());
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

/// CRC-16 as XMODEM has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        let start = sum ^ (u16::from(*byte) << 8);
        (0..8).fold(start, |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 })
    })
}
