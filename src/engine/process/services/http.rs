use super::super::session::{End, Session};

const SERVER: &str = "Apache/2.4.62 (Debian)";
const MAX_HEADERS: usize = 64;

/// One request, one answer.
pub(super) fn speak(session: &mut Session<'_>) -> Result<(), End> {
    let first = match session.text() {
        Err(End::LongLine) => return answer(session, "GET", "414 Request-URI Too Long"),
        first => first?,
    };
    let mut words = first.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
        return answer(session, "GET", "400 Bad Request");
    };
    if !version.starts_with("HTTP/1.") || method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return answer(session, "GET", "400 Bad Request");
    }
    let mut body = 0;
    let mut headers = 0;
    loop {
        let line = match session.text() {
            Err(End::LongLine) => return answer(session, method, "431 Request Header Fields Too Large"),
            line => line?,
        };
        if line.is_empty() {
            break;
        }
        headers += 1;
        if headers > MAX_HEADERS {
            return answer(session, method, "431 Request Header Fields Too Large");
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            let Ok(length) = value.trim().parse() else {
                return answer(session, method, "400 Bad Request");
            };
            body = length;
        }
    }
    // The credentials of a login form are in the body.
    session.exactly(body)?;
    let path = target.split(['?', '#']).next().unwrap_or(target);
    match (method, path) {
        ("GET" | "HEAD" | "POST", "/" | "/index.html") => answer(session, method, "200 OK"),
        ("GET" | "HEAD" | "POST" | "OPTIONS", _) => answer(session, method, "404 Not Found"),
        _ => answer(session, method, "405 Method Not Allowed"),
    }
}

fn answer(session: &mut Session<'_>, method: &str, status: &str) -> Result<(), End> {
    let host = session.hostname;
    let title = status.split_once(' ').map_or(status, |(_, words)| words);
    let body = if status.starts_with("200") {
        format!(
            "<!DOCTYPE html>\n<html>\n<head><title>{host}</title></head>\n<body>\n<h1>It works!</h1>\n\
             <p>This is the default web page of {host}.</p>\n</body>\n</html>\n"
        )
    } else {
        format!(
            "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>{status}</title>\n\
             </head><body>\n<h1>{title}</h1>\n<hr>\n<address>{SERVER} Server at {host}</address>\n</body></html>\n"
        )
    };
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let head = format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nServer: {SERVER}\r\nContent-Length: {}\r\n\
         Connection: close\r\nContent-Type: text/html; charset=utf-8\r\n\r\n",
        body.len()
    );
    session.send(&head)?;
    if method == "HEAD" { Ok(()) } else { session.send(&body) }
}
