use super::super::session::{End, Session};

const IAC: u8 = 255;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SUB: u8 = 250;
const SUB_END: u8 = 240;
const ECHO: u8 = 1;
/// Asks for the terminal's type, speed, display and environment, as telnetd does.
const HELLO: [u8; 12] = [IAC, DO, 24, IAC, DO, 32, IAC, DO, 35, IAC, DO, 39];
const TRIES: usize = 3;

/// A login that never works.
pub(super) fn speak(session: &mut Session<'_>) -> Result<(), End> {
    session.send_bytes(&HELLO)?;
    session.send("Debian GNU/Linux 12\r\n")?;
    for _ in 0..TRIES {
        session.send(&format!("{} login: ", session.hostname))?;
        line(session)?;
        // The client stops echoing while the password is typed.
        session.send_bytes(&[IAC, WILL, ECHO])?;
        session.send("Password: ")?;
        line(session)?;
        session.send_bytes(&[IAC, WONT, ECHO])?;
        session.send("\r\nLogin incorrect\r\n")?;
    }
    Ok(())
}

/// What was typed, up to the end of the line; commands in between are skipped,
/// since they hold bytes that look like one.
fn line(session: &mut Session<'_>) -> Result<(), End> {
    let mut typed = Vec::new();
    loop {
        match session.byte()? {
            IAC => skip(session)?,
            // RFC 854: a line ends with CR LF, a bare return is CR NUL.
            b'\n' | 0 => return Ok(()),
            byte => typed.push(byte),
        }
        session.check_line(&typed)?;
    }
}

fn skip(session: &mut Session<'_>) -> Result<(), End> {
    match session.byte()? {
        SUB => {
            let mut previous = 0;
            loop {
                let byte = session.byte()?;
                if previous == IAC && byte == SUB_END {
                    return Ok(());
                }
                previous = byte;
            }
        }
        // WILL, WONT, DO and DON'T name an option.
        WILL..=254 => session.byte().map(drop),
        _ => Ok(()),
    }
}
