//! What each service says: plausible, short, and never letting anybody in.

/// How a decoy talks on one connection.
pub(super) struct Talk {
    /// What it says first; empty if the client speaks first.
    pub(super) greeting: Vec<u8>,
    answer: Answer,
    state: State,
}

type Greeting = fn(&str) -> Vec<u8>;
type Answer = fn(&mut State, &str) -> Reply;

/// What is remembered between two lines.
struct State {
    hostname: String,
    step: u32,
}

/// The answer to a line.
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    HangUp,
}

/// Each service that there is, by name: what it says first, and how it answers.
/// Those that neither greet nor answer still listen and log.
const SERVICES: &[(&str, Greeting, Answer)] = &[
    ("conpot", waits, silent),
    ("dns", waits, silent),
    ("docker_api", waits, http),
    ("elasticsearch", waits, http),
    ("ftp", |host| format!("220 {host} FTP server ready.\r\n").into_bytes(), ftp),
    ("http", waits, http),
    ("https", waits, silent),
    ("imap", |host| format!("* OK [CAPABILITY IMAP4rev1 LOGIN] {host} ready\r\n").into_bytes(), imap),
    ("k8s", waits, http),
    ("ldap", waits, silent),
    ("llmnr", waits, silent),
    ("mongodb", waits, silent),
    ("mqtt", waits, silent),
    ("mssql", waits, silent),
    ("mysql", waits, silent),
    ("pop3", |host| format!("+OK {host} POP3 server ready\r\n").into_bytes(), pop3),
    ("postgres", waits, silent),
    ("rdp", waits, silent),
    ("redis", waits, redis),
    ("sip", waits, silent),
    ("smb", waits, silent),
    ("smtp", greet_smtp, smtp),
    ("smtp_relay", greet_smtp, smtp),
    ("snmp", waits, silent),
    ("ssh", |_| b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n".to_vec(), ssh),
    ("telnet", greet_telnet, telnet),
    ("tftp", waits, silent),
    ("vnc", |_| b"RFB 003.008\n".to_vec(), silent),
];

/// The services that there are.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(name, ..)| *name)
}

impl Talk {
    /// A service of this list; one that is not on it says nothing.
    pub(super) fn of(service: &str, hostname: &str) -> Self {
        let known = SERVICES.iter().find(|(name, ..)| *name == service);
        let (greeting, answer) = known
            .map_or((Vec::new(), silent as Answer), |(_, greeting, answer)| (greeting(hostname), *answer));
        Self { greeting, answer, state: State { hostname: hostname.to_owned(), step: 0 } }
    }

    /// A service of the caller's own, which says this and then listens.
    pub(super) fn own(greeting: &[u8]) -> Self {
        let state = State { hostname: String::new(), step: 0 };
        Self { greeting: greeting.to_vec(), answer: silent, state }
    }

    /// The answer to one line, without its line end.
    pub(super) fn answer(&mut self, line: &str) -> Reply {
        let reply = (self.answer)(&mut self.state, line);
        self.state.step = self.state.step.saturating_add(1);
        reply
    }
}

fn waits(_: &str) -> Vec<u8> {
    Vec::new()
}

fn greet_smtp(hostname: &str) -> Vec<u8> {
    format!("220 {hostname} ESMTP Postfix (Debian/GNU)\r\n").into_bytes()
}

/// Will echo, will suppress go-ahead, do window size.
fn greet_telnet(hostname: &str) -> Vec<u8> {
    let negotiation = [255, 251, 1, 255, 251, 3, 255, 253, 31];
    [&negotiation, format!("{hostname} login: ").as_bytes()].concat()
}

fn say(text: impl Into<String>) -> Reply {
    Reply { bytes: text.into().into_bytes(), then: Then::GoOn }
}

fn bye(text: impl Into<String>) -> Reply {
    Reply { bytes: text.into().into_bytes(), then: Then::HangUp }
}

fn word(line: &str) -> String {
    line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase()
}

fn ssh(_: &mut State, line: &str) -> Reply {
    if line.starts_with("SSH-") { say("") } else { bye("Invalid SSH identification string.\r\n") }
}

fn ftp(_: &mut State, line: &str) -> Reply {
    match word(line).as_str() {
        "USER" => say("331 Password required.\r\n"),
        "PASS" => say("530 Login incorrect.\r\n"),
        "SYST" => say("215 UNIX Type: L8\r\n"),
        "FEAT" => say("211-Features:\r\n UTF8\r\n211 End\r\n"),
        "QUIT" => bye("221 Goodbye.\r\n"),
        _ => say("530 Please login with USER and PASS.\r\n"),
    }
}

fn smtp(state: &mut State, line: &str) -> Reply {
    let host = &state.hostname;
    match word(line).as_str() {
        "EHLO" => say(format!(
            "250-{host}\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n"
        )),
        "HELO" => say(format!("250 {host}\r\n")),
        "MAIL" | "RSET" | "NOOP" => say("250 2.0.0 Ok\r\n"),
        "RCPT" => say("454 4.7.1 Relay access denied\r\n"),
        "DATA" => say("503 5.5.1 Error: need RCPT command\r\n"),
        "AUTH" => say("535 5.7.8 Error: authentication failed\r\n"),
        "QUIT" => bye("221 2.0.0 Bye\r\n"),
        _ => say("502 5.5.2 Error: command not recognized\r\n"),
    }
}

fn telnet(state: &mut State, _: &str) -> Reply {
    if state.step.is_multiple_of(2) {
        say("Password: ")
    } else {
        say(format!("\r\nLogin incorrect\r\n{} login: ", state.hostname))
    }
}

fn pop3(_: &mut State, line: &str) -> Reply {
    match word(line).as_str() {
        "USER" => say("+OK\r\n"),
        "CAPA" => say("+OK\r\nUSER\r\nUIDL\r\n.\r\n"),
        "QUIT" => bye("+OK Bye\r\n"),
        _ => say("-ERR [AUTH] Authentication failed.\r\n"),
    }
}

fn imap(_: &mut State, line: &str) -> Reply {
    let tag = line.split_whitespace().next().unwrap_or("*");
    match line.split_whitespace().nth(1).unwrap_or_default().to_ascii_uppercase().as_str() {
        "CAPABILITY" => say(format!("* CAPABILITY IMAP4rev1 LOGIN\r\n{tag} OK done\r\n")),
        "LOGOUT" => bye(format!("* BYE\r\n{tag} OK done\r\n")),
        "LOGIN" => say(format!("{tag} NO [AUTHENTICATIONFAILED] Authentication failed.\r\n")),
        _ => say(format!("{tag} BAD Please log in first.\r\n")),
    }
}

/// Redis clients send arrays of bulk strings; the words among their lines are
/// enough to answer by.
fn redis(_: &mut State, line: &str) -> Reply {
    match word(line).as_str() {
        "PING" => say("+PONG\r\n"),
        "QUIT" => bye("+OK\r\n"),
        "AUTH" => say("-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        "HELLO" => say("-NOPROTO unsupported protocol version\r\n"),
        "INFO" | "CONFIG" | "KEYS" | "GET" | "SET" | "SLAVEOF" | "EVAL" | "COMMAND" | "CLIENT" => {
            say("-NOAUTH Authentication required.\r\n")
        }
        _ => say(""),
    }
}

fn http(state: &mut State, line: &str) -> Reply {
    if state.step == 0 && !line.contains(" HTTP/") {
        return bye(
            "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        );
    }
    // The head ends with an empty line; what it asked for hardly matters.
    if !line.is_empty() {
        return say("");
    }
    let body = format!(
        "<html><head><title>{}</title></head><body><h1>It works!</h1></body></html>\n",
        state.hostname
    );
    bye(format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn silent(_: &mut State, _: &str) -> Reply {
    say("")
}
