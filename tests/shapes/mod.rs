//! Messages as real tools write them, with planted secrets, and harmless ones.
#![allow(dead_code)]

use fastrand::Rng;

pub fn cases() -> u64 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}

/// Five letters and digits in a row that are the secret's own.
pub fn leaks(shown: &str, secret: &str) -> bool {
    let letters: Vec<char> = secret.chars().collect();
    letters
        .windows(5)
        .filter(|part| part.iter().all(char::is_ascii_alphanumeric))
        .any(|part| shown.contains(&part.iter().collect::<String>()))
}

/// Letters and digits that no message has, with some of these signs between.
pub fn secret(random: &mut Rng, signs: &str) -> String {
    let signs: Vec<char> = signs.chars().collect();
    let mut secret = String::new();
    for _ in 0..random.usize(2..4) {
        secret.push(char::from(*random.choice(b"QXZVJK").unwrap()));
        secret.push(random.digit(10));
        for _ in 0..random.usize(4..9) {
            secret.push(random.alphanumeric());
        }
        if let Some(sign) = random.choice(&signs) {
            secret.push(*sign);
        }
    }
    secret.push(random.alphanumeric());
    secret
}

fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn python(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn page(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&#39;")
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let held =
            group.iter().fold(0_u32, |held, byte| held << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(held >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

const NAMES: [&str; 22] = [
    "PASSWORD",
    "MYSQL_ROOT_PASSWORD",
    "DB_PASS",
    "POSTGRES_PASSWORD",
    "SECRET_KEY",
    "API_KEY",
    "REDIS_AUTH",
    "REQUIREPASS",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "db.password",
    "spring.datasource.password",
    "apiKey",
    "clientSecret",
    "accessKey",
    "private-key",
    "access-key",
    "auth_token",
    "SSH_PASSPHRASE",
    "root_pw",
    "PASSWORD_2",
    "password_hash",
];
/// What a value may hold where nothing is quoted.
const BARE: &str = "#%+=:@~^*!_-./";
pub const ANY: &str = " #%+=:@~^*!_-./&;,\"'`\\$(){}[]<>|é\u{4e2d}";
const URL: &str = "#%+=:/~^*!_-.";

/// Messages with a secret that its spelling tells.
pub fn told(random: &mut Rng) -> (String, String) {
    let name = *random.choice(&NAMES).unwrap();
    let bare = secret(random, BARE);
    let any = secret(random, ANY);
    let url = secret(random, URL);
    let plain = secret(random, "");
    let n = random.u32(..1000);
    let shapes = [
        (format!("#{n} 0.{n} + export {name}={bare}"), &bare),
        (
            format!(
                "#{n} ERROR: process \"/bin/sh -c {name}={} make\" did not complete successfully: exit code: 2",
                json(&shell(&any))
            ),
            &any,
        ),
        (format!("Step {n}/9 : ENV {name}={bare}\n ---> Running in 4f1d"), &bare),
        (format!("Step {n}/9 : ENV DB_PASSWORD {any}"), &any),
        (
            format!("services.web.environment.{name} contains \"{}\", which is an invalid type", json(&any)),
            &any,
        ),
        (
            format!(
                "ERROR: for web-{n}  Cannot create container: Env: [\"{name}={}\" \"PATH=/bin\"]",
                json(&any)
            ),
            &any,
        ),
        (format!("{{\"level\":\"error\",\"config\":{{\"{name}\":\"{}\",\"n\":{n}}}}}", json(&any)), &any),
        (format!("log: {}", json(&format!("{{\"{name}\":\"{}\"}}", json(&any)))), &any),
        (
            format!(
                "{{\"auths\": {{\"r.io:{n}\": {{\"auth\": \"{}\"}}}}}}",
                base64(format!("me:{plain}").as_bytes())
            ),
            &plain,
        ),
        (format!("{{\"Name\": \"{name}\", \"Value\": \"{}\"}}", json(&any)), &any),
        (
            format!(
                "E: Failed to fetch https://bearer:{url}@apt.example.org/debian/dists/Release  401 Unauthorized"
            ),
            &url,
        ),
        (
            format!("W: Failed to fetch https://{plain}@ppa.example.org/x {n} and https://me:{url}@b.org/y"),
            &url,
        ),
        (format!("Looking in indexes: https://__token__:{url}@pypi.example.org/simple"), &url),
        (format!("ERROR: HTTP error 403 while getting https://{plain}@files.example.org/a-{n}.whl"), &plain),
        (
            format!(
                "fatal: unable to access 'https://{plain}@github.com/x/y.git/': The requested URL returned error: 403"
            ),
            &plain,
        ),
        (format!("fatal: Authentication failed for 'https://me:{url}@gitlab.example.org/x.git/'"), &url),
        (
            format!(
                "> GET / HTTP/1.1\r\n> Authorization: Basic {}\r\n> Host: x",
                base64(format!("me:{plain}").as_bytes())
            ),
            &plain,
        ),
        (format!("> Proxy-Authorization: Basic {plain}\n< HTTP/1.1 407"), &plain),
        (format!("send: b'GET / HTTP/1.1\\r\\nX-Registry-Auth: {plain}\\r\\nAccept: */*\\r\\n'"), &plain),
        (format!("+ curl -fsS -H 'Authorization: Token {plain}' https://x/{n}"), &plain),
        (format!("+ curl -u me:{bare} https://x"), &bare),
        (format!("+ curl --user {} https://x", shell(&format!("me:{any}"))), &any),
        (
            format!(
                "curl: (22) The requested URL returned error: 403: https://x/a?token={}&n={n}",
                percent(&any)
            ),
            &any,
        ),
        (format!("GET https://s3/b/o?X-Amz-Date={n}&X-Amz-Signature={plain}&X-Amz-Expires=60"), &plain),
        (format!("ERROR 1064 (42000) at line {n}: near 'IDENTIFIED BY {}'", json(&shell(&any))), &any),
        (format!("mysql -h db -u root -p{bare} shop"), &bare),
        (format!("mysqladmin: [Warning] ['mysqladmin', '-p{plain}', 'ping'] returned {n}"), &plain),
        (format!("the password \"{}\" is wrong", json(&any)), &any),
        (format!("redis-cli -h db -a {bare} ping"), &bare),
        (format!("{n}.1 [0 127.0.0.1:5] \"AUTH\" \"{}\"", json(&any)), &any),
        (format!("*** FATAL CONFIG FILE ERROR ***\nat line {n}\n>>> 'requirepass {plain}'"), &plain),
        (format!("SSH_PASSWORD has value {bare}"), &bare),
        (
            format!(
                "java.sql.SQLException: bad url jdbc:mysql://db/x?user=me&password={plain}&ssl=1\n\tat a.B.c(B.java:{n})"
            ),
            &plain,
        ),
        (
            format!("Caused by: BeanCreation: properties {{user=me, {name}={bare}}}\n\tat x.Y.z(Y.java:{n})"),
            &bare,
        ),
        (
            format!(
                "  File \"a.py\", line {n}, in connect\n    connect(user='me', {}={})",
                name.replace(['.', '-'], "_"),
                python(&any)
            ),
            &any,
        ),
        (format!("KeyError: {{'{name}': {}, 'n': {n}}}", python(&any)), &any),
        (format!("os.environ['{name}'] = {}", python(&any)), &any),
        (format!("ENV['PASSWORD'] = {}", python(&any)), &any),
        (format!("<property name=\"{name}\" value=\"{}\"/>", page(&any)), &any),
        (format!("<password>{}</password>", page(&any)), &any),
        (format!("dial: me:{plain}@tcp(db:3306)/x?n={n}: refused"), &plain),
        (format!("cmd [\"tool\", \"--password\", \"{}\", \"-v\"]", json(&any)), &any),
        (format!("docker login -u me -p {bare} r.io"), &bare),
        (format!("bad token ghp_{plain}{plain}{plain} in line {n}"), &plain),
        (
            format!(
                "refused eyJhbGciOiJIUzI1NiJ9.{}.{plain}",
                base64(plain.as_bytes()).trim_end_matches('=')
            ),
            &plain,
        ),
        (
            format!(
                "-----BEGIN OPENSSH PRIVATE KEY-----\n{plain}\n-----END OPENSSH PRIVATE KEY-----\nline {n}"
            ),
            &plain,
        ),
    ];
    let (message, secret) = random.choice(&shapes).unwrap();
    // One name may stand before another.
    let before = ["", "", "", "auth: ", "password: ", "invalid token: ", "SECRET_KEY ", "Error: secret is "];
    (format!("{}{message}", random.choice(&before).unwrap()), (*secret).clone())
}

/// The ways in which a known secret stands in messages; the tenth has it in
/// lowercase.
pub fn spellings(random: &mut Rng, known: &str) -> Vec<String> {
    let letters: Vec<char> = known.chars().collect();
    let start: String = letters[..random.usize(6..letters.len())].iter().collect();
    let end: String = letters[random.usize(..letters.len() - 6)..].iter().collect();
    vec![
        format!("refused {known} twice {known}"),
        format!("refused \"{}\"", json(known)),
        format!("refused \"{}\"", json(&json(known))),
        format!("sh -c {}", shell(known)),
        format!("sh -c \"{}\"", json(&shell(known))),
        format!("repr {}", python(known)),
        format!("debug {known:?} and {:?}", format!("{known:?}")),
        format!("/x?a={}&b", percent(known)),
        format!("/x?a={}&b", percent(&percent(known))),
        format!("/x?a={}&b", percent(known).replace("%20", "+").to_lowercase()),
        format!("<p>{}</p>", page(known)),
        format!("sql '{}'", known.replace('\'', "''")),
        format!("compose {}", known.replace('$', "$$")),
        format!("Basic {}", base64(format!("me:{known}").as_bytes())),
        format!("blob {}", base64(format!("{{\"n\":1,\"s\":\"{known}\"}}").as_bytes())),
        format!("hex {}", known.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()),
        format!("cut after {start}"),
        format!("cut after {start}... and on"),
        format!("{end} cut before"),
        format!("cut …{end} before"),
        known.chars().map(|c| format!("{c}\u{200b}")).collect(),
    ]
}

pub const HARMLESS: [&str; 31] = [
    "no such image for decky-03",
    "manifest for debian:13 not found: manifest unknown",
    "pull r.io/x@sha256:9b0ef1c2d3 failed",
    "https://host/path@v1 and https://registry.npmjs.org/@scope/pkg",
    "Access denied for user 'root'@'localhost' (using password: YES)",
    "FATAL: password authentication failed for user \"postgres\"",
    "remote: Invalid username or password.",
    "WWW-Authenticate: Bearer realm=\"https://auth.docker.io/token\",service=\"r\"",
    "sudo: a password is required",
    "token is missing; the token has expired",
    "SyntaxError: Unexpected token '<', \"<!DOCTYPE\" is not valid JSON",
    "mkdir -p /var/lib/x && docker run -p 8080:80 -u 1000:1000 x",
    "gcc -pthread -pedantic -O2 a.c",
    "ERROR: Could not find a version that satisfies the requirement secret-token==1.0",
    "Setting up passwd (1:4.13+dfsg1-1) ...",
    "W: GPG error: NO_PUBKEY 7638D0442B90D010",
    "NOAUTH Authentication required.",
    "Warning: Using a password on the command line interface can be insecure.",
    "DB_PASSWORD is not set, API_KEY must be given",
    "KeyError: 'SECRET_KEY'",
    "monkey=banana compass=north bypass: true author: John",
    "at com.x.TokenService.get(TokenService.java:12)",
    "service \"x\" refers to undefined secret db: invalid compose project",
    "PWD=/root keyword=x max_tokens=200",
    "git@github.com:x/y.git ssh://git@github.com/x",
    "Basic Authentication failed, basic usage",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "unable to prepare context: path \"/x/templates\" not found",
    "exit status: 1; time: 12:30 url=http://h:80/p",
    "TypeError: __init__() got an unexpected keyword argument 'password'",
    "correct battery, horse 5",
];
