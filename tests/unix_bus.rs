//! DECNET's bus on its wire: bytes, bounds, and servers that come and go.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use decnet_lifecycle::bus::unix::{Frame, FrameError, TapError, UnixBus, UnixTap, Verb};
use decnet_lifecycle::{
    DeckyName, LifecycleId, Operation, Status,
    bus::{Bus as _, Event},
};
use futures_lite::future::{block_on, zip};

fn event(number: u128) -> Event {
    Event {
        decky: DeckyName::parse("decky-01").unwrap(),
        lifecycle_id: LifecycleId::from_u128(number),
        operation: Operation::Deploy,
        status: Status::Failed,
        error: Some("Engine: é".to_owned()),
    }
}

/// What the thread sends for such an event, byte by byte.
fn wire(number: u8) -> Vec<u8> {
    let body = format!(
        r#"{{"payload":{{"error":"Engine: é","lifecycle_id":"00000000-0000-0000-0000-0000000000{number:02x}","operation":"deploy","status":"failed"}},"type":"lifecycle"}}"#
    );
    let mut bytes = b"PUB decky.decky-01.lifecycle\n".to_vec();
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

const HELLO: &[u8] = b"HELLO master\n\0\0\0\0";

fn expect(stream: &mut UnixStream, wanted: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(wanted));
}

#[test]
fn events_go_out_in_the_originals_framing_and_a_drop_says_bye() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let bus = UnixBus::new(dir.path().join("s"), "master\n", 8);
    bus.publish(&event(1));
    bus.publish(&event(2));
    let (mut server, _) = listener.accept().unwrap();
    expect(&mut server, &[HELLO, &wire(1), &wire(2)].concat());
    bus.publish(&event(3));
    drop(bus);
    expect(&mut server, &[wire(3), b"BYE\n\0\0\0\0".to_vec()].concat());
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_server_that_comes_late_or_again_gets_what_still_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let bus = UnixBus::new(&path, "master", 4);
    for number in 1..=6 {
        bus.publish(&event(number));
    }
    // Nobody was there: the oldest two went, and were counted.
    assert_eq!(bus.dropped(), 2);
    let listener = UnixListener::bind(&path).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    expect(&mut server, &[HELLO, &wire(3), &wire(4), &wire(5), &wire(6)].concat());
    drop((server, listener));
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    // The write that finds the server gone is carried by the next connection.
    bus.publish(&event(7));
    let (mut server, _) = listener.accept().unwrap();
    expect(&mut server, &[HELLO, &wire(7)].concat());
    assert_eq!(bus.dropped(), 2);
}

#[test]
fn a_server_that_does_not_read_delays_no_publisher() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let bus = UnixBus::new(dir.path().join("s"), "master", 16);
    let (_silent, _) = listener.accept().unwrap();
    // Far more than a socket's buffer holds.
    for number in 0..20_000 {
        bus.publish(&event(number));
    }
    assert!(bus.dropped() > 10_000, "{} dropped", bus.dropped());
}

#[test]
fn a_tap_subscribes_hears_and_says_why_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    assert!(matches!(block_on(UnixTap::connect(&path, "tap", ">")), Err(TapError::Io { .. })));
    let listener = UnixListener::bind(&path).unwrap();
    assert!(matches!(
        block_on(UnixTap::connect(&path, "tap", "a\nPUB b")),
        Err(TapError::Frame(FrameError::Line))
    ));
    let mut tap = block_on(UnixTap::connect(&path, "tap", "decky.*.lifecycle")).unwrap();
    // The refused pattern had made no connection.
    let (mut server, _) = listener.accept().unwrap();
    expect(&mut server, b"HELLO tap\n\0\0\0\0SUB decky.*.lifecycle\n\0\0\0\0");
    // As the original's server was seen to write it.
    let body = br#"{"v":1,"id":"3e26","topic":"decky.decky-01.lifecycle","type":"lifecycle","ts":1795496182.6155355,
 "payload":{"lifecycle_id":"11111111-1111-4111-8111-111111111111","operation":"deploy","status":"failed","error":"RuntimeError: boom"}}"#;
    let evt =
        |body: &[u8]| Frame::new(Verb::Evt, "decky.decky-01.lifecycle", body.to_vec()).unwrap().to_bytes();
    let bytes = [evt(b"not json"), evt(body)].concat();
    block_on(zip(
        async {
            let heard = tap.next().await.unwrap();
            assert_eq!(
                (heard.kind.as_str(), heard.payload["status"].as_str()),
                ("lifecycle", Some("failed"))
            );
        },
        async {
            for piece in bytes.chunks(7) {
                server.write_all(piece).unwrap();
                futures_lite::future::yield_now().await;
            }
        },
    ));
    server.write_all(b"GARBAGE\n\0\0\0\0").unwrap();
    assert!(matches!(block_on(tap.next()), Err(TapError::Frame(FrameError::Verb(_)))));
    let mut tap = block_on(UnixTap::connect(&path, "tap", ">")).unwrap();
    drop(listener.accept().unwrap());
    assert!(matches!(block_on(tap.next()), Err(TapError::Closed)));
}

#[test]
fn frames_are_bounded_and_tolerant_only_of_a_carriage_return() {
    let take = |bytes: &[u8]| Frame::take(&mut bytes.to_vec());
    let frame = take(b"PUB a.b\r\n\0\0\0\x02hi...").unwrap().unwrap();
    assert_eq!((frame.verb(), frame.argument(), frame.body()), (Verb::Pub, "a.b", &b"hi"[..]));
    for part in [&b""[..], b"PUB", b"PUB a\n", b"PUB a\n\0\0\0", b"PUB a\n\0\0\0\x05hi"] {
        assert_eq!(take(part), Ok(None), "{part:?}");
    }
    assert!(matches!(take(b"PUT a\n"), Err(FrameError::Verb(_))));
    assert_eq!(take(b"PUB \xff\n"), Err(FrameError::Line));
    assert_eq!(take("PUB é\n".as_bytes()), Err(FrameError::Line));
    assert_eq!(take(&[b'a'; Frame::MAX_LINE]), Err(FrameError::Line));
    assert_eq!(take(b"PUB a\n\xff\xff\xff\xff"), Err(FrameError::Body(0xffff_ffff)));
    assert_eq!(take(b"PUB a\n\0\x10\0\x01"), Err(FrameError::Body((1 << 20) + 1)));
    assert!(Frame::new(Verb::Pub, "a", vec![0; Frame::MAX_BODY]).is_ok());
    assert!(Frame::new(Verb::Pub, "a", vec![0; Frame::MAX_BODY + 1]).is_err());
    assert!(Frame::new(Verb::Pub, &"a".repeat(Frame::MAX_LINE - 5), vec![]).is_ok());
    assert!(Frame::new(Verb::Pub, &"a".repeat(Frame::MAX_LINE - 4), vec![]).is_err());
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = b"PUB a\n\0\0\0\x03abcSUB b\n\0\0\0\0".to_vec();
        let place = random.usize(..bytes.len());
        bytes[place] = random.u8(..);
        while let Ok(Some(frame)) = Frame::take(&mut bytes) {
            assert_eq!(Frame::take(&mut frame.to_bytes()), Ok(Some(frame)));
        }
    }
}
