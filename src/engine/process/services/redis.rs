use super::super::session::{End, Session};

const MAX_WORDS: usize = 64;
const MAX_WORD: usize = 1024;

/// A server that wants a password and knows none.
pub(super) fn speak(session: &mut Session<'_>) -> Result<(), End> {
    loop {
        let words = match request(session)? {
            Ok(words) => words,
            Err(complaint) => return session.send(complaint),
        };
        let Some(name) = words.first() else { continue };
        match name.to_ascii_uppercase().as_slice() {
            b"PING" => session.send("+PONG\r\n")?,
            b"INFO" => {
                let info = info();
                session.send(&format!("${}\r\n{info}\r\n", info.len()))?;
            }
            b"AUTH" if words.len() == 1 => session.send("-ERR wrong number of arguments for 'auth' command\r\n")?,
            b"AUTH" => session.send("-WRONGPASS invalid username-password pair or user is disabled.\r\n")?,
            b"QUIT" => return session.send("+OK\r\n"),
            _ => session.send("-NOAUTH Authentication required.\r\n")?,
        }
    }
}

type Request = Result<Vec<Vec<u8>>, &'static str>;

/// An array of bulk strings, or words on a line.
fn request(session: &mut Session<'_>) -> Result<Request, End> {
    let line = session.line()?;
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Ok(Ok(words.map(<[u8]>::to_vec).collect()));
    };
    let Some(count) = number(count, MAX_WORDS) else {
        return Ok(Err("-ERR Protocol error: invalid multibulk length\r\n"));
    };
    let mut words = Vec::new();
    for _ in 0..count {
        let line = session.line()?;
        let Some(length) = line.strip_prefix(b"$") else {
            return Ok(Err("-ERR Protocol error: expected '$'\r\n"));
        };
        let Some(length) = number(length, MAX_WORD) else {
            return Ok(Err("-ERR Protocol error: invalid bulk length\r\n"));
        };
        words.push(session.exactly(length)?);
        session.exactly(2)?;
    }
    Ok(Ok(words))
}

fn number(text: &[u8], max: usize) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number| *number <= max)
}

fn info() -> String {
    "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nos:Linux 6.1.0-18-amd64 x86_64\r\narch_bits:64\r\n\
     tcp_port:6379\r\n# Clients\r\nconnected_clients:1\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
        .to_owned()
}
