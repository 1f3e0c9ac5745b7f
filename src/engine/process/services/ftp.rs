use super::super::session::{End, Session};
use super::command;

/// FTP, as far as a login that never works.
pub(super) fn speak(session: &mut Session<'_>) -> Result<(), End> {
    session.send(&format!("220 ProFTPD Server (Debian) [{}]\r\n", session.hostname))?;
    let mut user = String::new();
    loop {
        let line = session.text()?;
        let (word, rest) = command(&line);
        match word.as_str() {
            "USER" if rest.is_empty() => session.send("500 USER: command requires a parameter\r\n")?,
            "USER" => {
                rest.clone_into(&mut user);
                session.send(&format!("331 Password required for {user}\r\n"))?;
            }
            "PASS" if user.is_empty() => session.send("503 Login with USER first\r\n")?,
            "PASS" => {
                user.clear();
                session.send("530 Login incorrect.\r\n")?;
            }
            "SYST" => session.send("215 UNIX Type: L8\r\n")?,
            "FEAT" => session.send("211-Features:\r\n UTF8\r\n EPSV\r\n MDTM\r\n SIZE\r\n211 End\r\n")?,
            "NOOP" => session.send("200 NOOP command successful\r\n")?,
            "AUTH" => session.send("500 AUTH not understood\r\n")?,
            "QUIT" => return session.send("221 Goodbye.\r\n"),
            "PWD" | "CWD" | "LIST" | "NLST" | "RETR" | "STOR" | "PASV" | "EPSV" | "PORT" | "TYPE" | "DELE" | "MKD" => {
                session.send("530 Please login with USER and PASS\r\n")?;
            }
            _ => session.send(&format!("500 {word} not understood\r\n"))?,
        }
    }
}
