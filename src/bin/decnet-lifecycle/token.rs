//! The bearer token of the API: made, and read from its file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use decnet_lifecycle::{http::Token, private_file::Secrecy};

use crate::Complaint;
use crate::files::write_new;
use crate::private;

/// The token in this file; made if there is none.
pub fn load(path: &Path) -> Result<Token, Complaint> {
    let token = Token::parse(&text(path)?).map_err(|_| no_token(path))?;
    Ok(token.found_in("serve.token in the master's data directory"))
}

/// The token as it stands in the file.
pub fn text(path: &Path) -> Result<String, Complaint> {
    private::one(path, Secrecy::Secret)?;
    match fs::read_to_string(path) {
        Ok(text) if Token::parse(&text).is_ok() => Ok(text.trim().to_owned()),
        Ok(_) => Err(no_token(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let token = random()?;
            write_new(path, &format!("{token}\n"), 0o600)?;
            Ok(token)
        }
        Err(error) => Err(Complaint(format!("{}: {error}", path.display()))),
    }
}

fn no_token(path: &Path) -> Complaint {
    Complaint(format!("{}: it holds no token; remove it, and `serve` makes one", path.display()))
}

fn random() -> Result<String, Complaint> {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Complaint("the machine gave no randomness for a token".into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
