use super::super::session::{End, Session};
use super::command;

/// A mail server that takes nobody's mail.
pub(super) fn smtp(session: &mut Session<'_>) -> Result<(), End> {
    let host = session.hostname;
    session.send(&format!("220 {host} ESMTP Postfix (Debian/GNU)\r\n"))?;
    let mut sender = false;
    loop {
        let line = session.text()?;
        let (word, rest) = command(&line);
        match word.as_str() {
            "HELO" | "EHLO" if rest.is_empty() => session.send(&format!("501 Syntax: {word} hostname\r\n"))?,
            "HELO" => session.send(&format!("250 {host}\r\n"))?,
            "EHLO" => session.send(&format!(
                "250-{host}\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n250-AUTH PLAIN LOGIN\r\n\
                 250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
            ))?,
            "MAIL" => {
                sender = true;
                session.send("250 2.1.0 Ok\r\n")?;
            }
            "RCPT" if !sender => session.send("503 5.5.1 Error: need MAIL command\r\n")?,
            "RCPT" => {
                let to = rest.split_once(':').map_or(rest, |(_, to)| to.trim());
                session.send(&format!("554 5.7.1 {to}: Relay access denied\r\n"))?;
            }
            "DATA" => session.send("554 5.5.1 Error: no valid recipients\r\n")?,
            "AUTH" => auth(session, rest)?,
            "RSET" | "NOOP" => {
                sender &= word == "NOOP";
                session.send("250 2.0.0 Ok\r\n")?;
            }
            "VRFY" => session.send("252 2.0.0 Ok\r\n")?,
            "QUIT" => return session.send("221 2.0.0 Bye\r\n"),
            _ => session.send("502 5.5.2 Error: command not recognized\r\n")?,
        }
    }
}

fn auth(session: &mut Session<'_>, rest: &str) -> Result<(), End> {
    let (mechanism, first) = command(rest);
    let challenges: &[&str] = match mechanism.as_str() {
        // "Username:" and "Password:".
        "LOGIN" if first.is_empty() => &["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"],
        "LOGIN" => &["334 UGFzc3dvcmQ6\r\n"],
        "PLAIN" if first.is_empty() => &["334 \r\n"],
        "PLAIN" => &[],
        _ => return session.send("535 5.7.8 Error: authentication failed: Invalid authentication mechanism\r\n"),
    };
    for challenge in challenges {
        session.send(challenge)?;
        session.line()?;
    }
    session.send("535 5.7.8 Error: authentication failed: authentication failure\r\n")
}

/// A mailbox that nobody can open.
pub(super) fn pop3(session: &mut Session<'_>) -> Result<(), End> {
    session.send(&format!("+OK {} Dovecot (Debian) ready.\r\n", session.hostname))?;
    let mut user = false;
    loop {
        let line = session.text()?;
        let (word, _) = command(&line);
        match word.as_str() {
            "CAPA" => session.send(
                "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\nUSER\r\nSASL PLAIN\r\n.\r\n",
            )?,
            "USER" => {
                user = true;
                session.send("+OK\r\n")?;
            }
            "PASS" if !user => session.send("-ERR No username given.\r\n")?,
            "PASS" | "APOP" | "AUTH" => session.send("-ERR [AUTH] Authentication failed.\r\n")?,
            "QUIT" => return session.send("+OK Logging out\r\n"),
            _ => session.send("-ERR Unknown command.\r\n")?,
        }
    }
}

/// As [`pop3`], in the other protocol.
pub(super) fn imap(session: &mut Session<'_>) -> Result<(), End> {
    const CAPABILITY: &str = "CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN";
    session.send(&format!("* OK [{CAPABILITY}] {} Dovecot (Debian) ready.\r\n", session.hostname))?;
    loop {
        let line = session.text()?;
        let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
        if tag.is_empty() || rest.is_empty() {
            session.send("* BAD Error in IMAP command received by server.\r\n")?;
            continue;
        }
        let (word, arguments) = command(rest);
        match word.as_str() {
            "CAPABILITY" => session.send(&format!("* {CAPABILITY}\r\n{tag} OK Pre-login capabilities listed.\r\n"))?,
            "NOOP" => session.send(&format!("{tag} OK NOOP completed.\r\n"))?,
            "LOGIN" => session.send(&format!("{tag} NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"))?,
            "AUTHENTICATE" => {
                if !arguments.contains(' ') {
                    session.send("+ \r\n")?;
                    session.line()?;
                }
                session.send(&format!("{tag} NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"))?;
            }
            "LOGOUT" => {
                return session.send(&format!("* BYE Logging out\r\n{tag} OK Logout completed.\r\n"));
            }
            _ => session.send(&format!("{tag} BAD Error in IMAP command {word}: Unknown command.\r\n"))?,
        }
    }
}
