use super::super::session::{End, Session};

const VERSION: &str = "5.5.5-10.11.6-MariaDB-0+deb12u1";
const MAX_ANSWER: usize = 4096;
/// The fixed part of a client's answer, before the name of the user.
const FIXED: usize = 32;

/// A greeting, and access denied to whoever answers it.
pub(super) fn speak(session: &mut Session<'_>) -> Result<(), End> {
    session.send_bytes(&packet(0, &greeting()))?;
    let head = session.exactly(4)?;
    let length = head.iter().take(3).rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let sequence = head.last().map_or(1, |last| last.wrapping_add(1));
    if length > MAX_ANSWER {
        return session.send_bytes(&packet(sequence, &error(1153, "08S01", "Got a packet bigger than allowed")));
    }
    let answer = session.exactly(length)?;
    let user: String = answer
        .iter()
        .skip(FIXED)
        .take_while(|byte| **byte != 0)
        .take(64)
        .filter(|byte| byte.is_ascii_graphic())
        .map(|byte| char::from(*byte))
        .collect();
    let message = format!("Access denied for user '{user}'@'{}' (using password: YES)", session.peer.ip());
    session.send_bytes(&packet(sequence, &error(1045, "28000", &message)))
}

fn greeting() -> Vec<u8> {
    // Printable, as the salt of the real one is.
    let mut salt = std::iter::repeat_with(fastrand::alphanumeric).map(|c| c as u8);
    let mut payload = vec![10];
    payload.extend(VERSION.as_bytes());
    payload.push(0);
    payload.extend(fastrand::u32(30..30_000).to_le_bytes());
    payload.extend(salt.by_ref().take(8));
    payload.push(0);
    // Capabilities, utf8mb4, autocommit, capabilities, length of the salt.
    payload.extend([0xfe, 0xf7, 45, 0x02, 0x00, 0xff, 0x81, 21]);
    payload.extend([0; 10]);
    payload.extend(salt.take(12));
    payload.push(0);
    payload.extend(b"mysql_native_password\0");
    payload
}

fn error(code: u16, state: &str, message: &str) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend(code.to_le_bytes());
    payload.push(b'#');
    payload.extend(state.as_bytes());
    payload.extend(message.as_bytes());
    payload
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_le_bytes();
    let mut packet: Vec<u8> = length.into_iter().take(3).collect();
    packet.push(sequence);
    packet.extend(payload);
    packet
}
