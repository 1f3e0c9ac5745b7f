//! The bus on its wire: bytes, bounds, and servers that come, go and misbehave.

use decnet_lifecycle::DeckyName;
use decnet_lifecycle::bus::nats::{LineError, NatsBus, NatsSettings, ServerLine};
use decnet_lifecycle::bus::{Bus as _, DriftEvent, DriftState};

use crate::fake::{Fake, INFO, event, hello, settings, wire};

#[test]
fn events_go_out_as_the_protocol_has_it_and_a_drop_waits_until_they_are_read() {
    let fake = Fake::new();
    let bus = NatsBus::new(fake.settings(), 8);
    bus.publish(&event(1));
    bus.publish(&event(2));
    let mut peer = fake.let_in();
    peer.expect(&(wire(1) + &wire(2)));
    peer.say("PING\r\n+OK\r\nping\r\n");
    bus.publish(&event(3));
    drop(bus);
    let said = String::from_utf8(peer.read((wire(3) + "PONG\r\nPONG\r\nPING\r\n").len())).unwrap();
    assert_eq!(said, "PONG\r\nPONG\r\n".to_owned() + &wire(3) + "PING\r\n");
    peer.say("PONG\r\n");
    assert_eq!(peer.rest(), b"");
}

#[test]
fn drift_goes_out_as_well() {
    let fake = Fake::new();
    let bus = NatsBus::new(fake.settings(), 8);
    let decky = DeckyName::parse("decky-01").unwrap();
    bus.publish_drift(&DriftEvent {
        decky,
        host: None,
        state: DriftState::Drifted,
        what: "1/2 (ssh dead)".into(),
    });
    let body = r#"{"payload":{"state":"drifted","what":"1/2 (ssh dead)"},"type":"drift"}"#;
    fake.let_in().expect(&format!("PUB decnet.decky.decky-01.drift {}\r\n{body}\r\n", body.len()));
}

#[test]
fn a_server_that_comes_late_or_again_gets_what_still_waits() {
    let port = Fake::new().port();
    let bus = NatsBus::new(settings(&format!("nats://127.0.0.1:{port}")), 4);
    for number in 1..=6 {
        bus.publish(&event(number));
    }
    // Nobody was there: the oldest two went, and were counted.
    assert_eq!(bus.dropped(), 2);
    let fake = Fake::at(port);
    let mut peer = fake.let_in();
    peer.expect(&(3..=6).map(wire).collect::<String>());
    drop(peer);
    // It is seen that the server has gone, before anything is handed to it.
    bus.publish(&event(7));
    fake.let_in().expect(&wire(7));
    assert_eq!(bus.dropped(), 2);
}

#[test]
fn a_server_that_does_not_read_delays_no_publisher() {
    let fake = Fake::new();
    let bus = NatsBus::new(fake.settings(), 16);
    let _silent = fake.let_in();
    // Far more than the buffers of both sockets grow to.
    for number in 0..200_000 {
        bus.publish(&event(number));
    }
    assert!(bus.dropped() > 50_000, "{} dropped", bus.dropped());
}

#[test]
fn a_server_that_floods_holds_up_no_event() {
    let fake = Fake::new();
    let bus = NatsBus::new(fake.settings(), 16);
    let mut peer = fake.let_in();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut mouth = peer.clone();
    let flood = std::thread::spawn(move || {
        let words = "MSG a 1 3\r\nabc\r\n+OK\r\n".repeat(1_000);
        while stopped.try_recv().is_err() && mouth.try_say(words.as_bytes()) {}
    });
    bus.publish(&event(1));
    peer.expect(&wire(1));
    stop.send(()).unwrap();
    drop((bus, peer));
    flood.join().unwrap();
}

#[test]
fn what_a_server_asks_for_is_done() {
    let (first, second) = (Fake::new(), Fake::new());
    let url = format!("nats://127.0.0.1:{},127.0.0.1:{}", first.port(), second.port());
    let bus = NatsBus::new(settings(&url), 8);
    let mut peer = first.let_in();
    // From now on it takes short messages alone, so an event is dropped and counted.
    peer.say("-ERR 'Permissions Violation for Publish to \"x\"'\r\nINFO {\"max_payload\":20}\r\nPING\r\n");
    peer.expect("PONG\r\n");
    bus.publish(&event(1));
    while bus.dropped() == 0 {
        std::thread::yield_now();
    }
    // One that is about to stop is left, and the next one taken.
    peer.say("INFO {\"max_payload\":1048576,\"ldm\":true}\r\n");
    let mut other = second.let_in();
    assert_eq!(peer.rest(), b"");
    bus.publish(&event(2));
    other.expect(&wire(2));
    // It goes, and the first one is taken again.
    drop(other);
    bus.publish(&event(3));
    first.let_in().expect(&wire(3));
    assert_eq!(bus.dropped(), 1);
}

#[test]
fn who_says_what_no_server_says_is_left() {
    let fake = Fake::new();
    let bus = NatsBus::new(fake.settings(), 8);
    let long = "INFO ".to_owned() + &" ".repeat(ServerLine::MAX_LINE);
    for nonsense in
        ["HTTP/1.1 400 Bad Request\r\n", "PONG\r\n", "INFO []\r\n", "INFO {\r\n", &long, "-ERR 'no'\r\n"]
    {
        let mut peer = fake.accept();
        peer.try_say(nonsense.as_bytes());
        assert_eq!(peer.rest(), b"", "{nonsense:.40}");
    }
    for nonsense in
        ["MSG a 1 99999999\r\n", "HMSG a 1 7 3\r\n", "MSG a x 1\r\n", "MSG a 1 1\r\nabc\r\n", "\u{7f}\r\n"]
    {
        fake.let_in().say(nonsense);
    }
    bus.publish(&event(1));
    fake.let_in().expect(&wire(1));
}

/// Wherever a connection is cut, the next one is a whole one.
#[test]
fn a_connection_may_be_cut_at_every_byte() {
    let fake = Fake::new();
    let bus = NatsBus::new(fake.settings(), 8);
    // What the server says, cut.
    for cut in 0..INFO.len() {
        let mut peer = fake.accept();
        peer.say(&INFO[..cut]);
    }
    for cut in 0.."PONG\r\n".len() {
        let mut peer = fake.accept();
        peer.say(INFO);
        peer.expect(&hello());
        peer.say(&"PONG\r\n"[..cut]);
    }
    // What it hears, cut.
    for cut in 0..hello().len() {
        let mut peer = fake.accept();
        peer.say(INFO);
        peer.expect(&hello()[..cut]);
    }
    // Events, cut: each is the first that the next connection carries.
    for cut in 0..wire(0).len() {
        let number = u128::try_from(cut).unwrap();
        bus.publish(&event(number));
        fake.let_in().expect_bytes(&wire(number).as_bytes()[..cut]);
    }
    assert_eq!(bus.dropped(), 0);
}

#[test]
fn lines_are_bounded_and_tolerant_of_what_servers_write() {
    let take = |bytes: &[u8]| ServerLine::take(&mut bytes.to_vec());
    // Two spaces, as a server writes them before a size.
    let Ok(Some(ServerLine::Message(message))) = take(b"MSG _INBOX.a.7 1  3\r\n{}!\r\n") else { panic!() };
    assert_eq!((message.payload.as_slice(), message.subscription, message.reply), (&b"{}!"[..], 1, None));
    let Ok(Some(ServerLine::Message(message))) = take(b"hmsg a 1 r 16 18\r\nNATS/1.0 503\r\n\r\nhi\r\n")
    else {
        panic!()
    };
    assert_eq!((message.status(), message.payload.as_slice()), (Some(503), &b"hi"[..]));
    assert_eq!(message.reply.as_deref(), Some("r"));
    assert_eq!(take(b"-ERR 'Unknown Protocol'\r\n"), Ok(Some(ServerLine::Error("Unknown Protocol".into()))));
    let Ok(Some(ServerLine::Info(info))) = take(b"INFO {\"nonce\":\"n\",\"port\":1,\"x\":[]} \r\n") else {
        panic!()
    };
    assert_eq!((info.nonce.as_deref(), info.max_payload, info.tls_required), (Some("n"), 1 << 20, false));
    for part in [&b""[..], b"PIN", b"MSG a 1 3\r\n", b"MSG a 1 3\r\nabc", b"MSG a 1 3\r\nabc\r"] {
        assert_eq!(take(part), Ok(None), "{part:?}");
    }
    assert_eq!(take(b"MSG a 1 4194305\r\n"), Err(LineError::Payload((4 << 20) + 1)));
    assert_eq!(take(b"MSG a 1 -1\r\n"), Err(LineError::Arguments("MSG")));
    assert_eq!(take(b"HMSG a 1 3 2\r\n"), Err(LineError::Arguments("HMSG")));
    assert_eq!(take(b"GET / HTTP/1.1\r\n"), Err(LineError::Word("GET".into())));
    assert_eq!(take(b"\xff\r\n"), Err(LineError::Line));
    assert_eq!(take(&[b'a'; ServerLine::MAX_LINE]), Err(LineError::Line));
}

#[test]
fn a_url_is_understood_or_said_to_be_wrong_without_what_it_says() {
    for (url, servers) in [
        ("nats://localhost", "localhost:4222"),
        ("nats://a:1,b,nats://c:3/?prefix=x.y", "a:1, b:4222, c:3"),
        ("tls://[::1]:7", "[::1]:7"),
        ("nats://u:p%40%3a/@h", "h:4222"),
        ("nats://hunter2@h?tls=off", "h:4222"),
    ] {
        let settings: NatsSettings = url.parse().unwrap();
        assert_eq!(settings.servers(), servers, "{url}");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
    for url in [
        "hunter2",
        "http://hunter2",
        "nats://",
        "nats://u:hunter2@",
        "nats://u:hunter2@h:port",
        "nats://h:0",
        "nats://u:hunter2@h/hunter2",
        "nats://h?hunter2",
        "nats://h?tls=hunter2",
        "tls://h?tls=off",
        "nats://h?prefix=hunter2.>",
        "nats://h?prefix=",
        "nats://h?prefix=a..b",
        "nats://h?ca=/nowhere",
        "nats://hunter2@h?creds=/nowhere",
        "nats://h,,i",
        "nats://h%20",
        "nats://%ff:hunter2@h",
    ] {
        let error = url.parse::<NatsSettings>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{url}: {error}");
    }
    // What is wrong on the way holds none of it either.
    let fake = Fake::new();
    let bus = NatsBus::new(settings(&format!("nats://u:hunter2@127.0.0.1:{}", fake.port())), 1);
    assert!(!format!("{bus:?}").contains("hunter2"));
    let mut peer = fake.accept();
    peer.say(INFO);
    let said = String::from_utf8(peer.read(hello().len() + r#""user":"u","pass":"hunter2","#.len())).unwrap();
    assert!(said.contains(r#""user":"u","pass":"hunter2","#), "{said}");
}
