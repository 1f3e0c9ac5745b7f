//! What a NATS server says, and URLs of servers.

use decnet_lifecycle::bus::nats::{LineError, NatsSettings, ServerLine};

/// Bytes of a server say the same however they are cut, and no more is kept
/// than one line or message takes; a URL is understood, or said to be wrong.
pub fn nats(data: &[u8]) {
    let mut whole = data.to_vec();
    let (said, end) = lines(&mut whole);
    let (mut piece, mut received, mut in_pieces) = (Vec::new(), 0, (Vec::new(), None));
    let step = 1 + usize::from(data.first().copied().unwrap_or(0) % 13);
    for bytes in data.chunks(step) {
        piece.extend_from_slice(bytes);
        received += bytes.len();
        let (more, end) = lines(&mut piece);
        in_pieces.0.extend(more);
        if end.is_some() {
            in_pieces.1 = end;
            break;
        }
        assert!(piece.len() <= ServerLine::MAX_LINE + ServerLine::MAX_PAYLOAD + 2);
    }
    assert_eq!((said, &end), (in_pieces.0, &in_pieces.1));
    assert!(received <= data.len() && (end.is_some() || piece == whole));
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Not what is read from files: what is there is no business of a fuzzer's.
    if ["ca=", "creds="].iter().any(|file| text.contains(file)) {
        return;
    }
    match text.parse::<NatsSettings>() {
        Ok(settings) => {
            let again = format!(
                "nats://{}?prefix={}&tls=off",
                settings.servers().replace(", ", ","),
                settings.prefix()
            );
            let again: NatsSettings = again.parse().unwrap();
            assert_eq!((again.servers(), again.prefix()), (settings.servers(), settings.prefix()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// All that is there, and what ended it if that was no want of bytes.
fn lines(received: &mut Vec<u8>) -> (Vec<ServerLine>, Option<LineError>) {
    let mut said = Vec::new();
    loop {
        let before = received.len();
        match ServerLine::take(received) {
            Ok(Some(line)) => said.push(line),
            Ok(None) => {
                assert_eq!(received.len(), before);
                return (said, None);
            }
            Err(error) => return (said, Some(error)),
        }
    }
}
