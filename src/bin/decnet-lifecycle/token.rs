//! The bearer token of the API: made, read and compared.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use decnet_lifecycle::private_file::Secrecy;

use crate::Complaint;
use crate::files::write_new;
use crate::private;

/// The bearer token of the API. Kept as its hash, so that comparing takes no
/// longer the more of it is right.
pub struct Token([u8; 32]);

impl Token {
    /// The token in this file; made if there is none.
    pub fn load(path: &Path) -> Result<Self, Complaint> {
        Ok(Self::of(&Self::text(path)?))
    }

    /// The token as it stands in the file.
    pub fn text(path: &Path) -> Result<String, Complaint> {
        let complain = |error: &dyn std::fmt::Display| Complaint(format!("{}: {error}", path.display()));
        private::one(path, Secrecy::Secret)?;
        match fs::read_to_string(path) {
            Ok(text) if text.trim().len() >= 32 => Ok(text.trim().to_owned()),
            Ok(_) => Err(complain(&"it holds no token; remove it, and `serve` makes one")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let token = random()?;
                write_new(path, &format!("{token}\n"), 0o600)?;
                Ok(token)
            }
            Err(error) => Err(complain(&error)),
        }
    }

    fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether a request carries it.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        match given {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::of(token.trim()).0 == self.0
            }
            _ => false,
        }
    }
}

fn random() -> Result<String, Complaint> {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Complaint("the machine gave no randomness for a token".into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
