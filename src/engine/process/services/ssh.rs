use super::super::session::{End, Session};

const BANNER: &str = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
const KEXINIT: u8 = 20;
/// What that version of OpenSSH offers, in the order of RFC 4253, 7.1.
const OFFERS: [&str; 10] = [
    "sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,\
     ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,\
     diffie-hellman-group18-sha512,diffie-hellman-group14-sha256,kex-strict-s-v00@openssh.com",
    "rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519",
    CIPHERS,
    CIPHERS,
    MACS,
    MACS,
    COMPRESSION,
    COMPRESSION,
    "",
    "",
];
const CIPHERS: &str = "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,\
                       aes128-gcm@openssh.com,aes256-gcm@openssh.com";
const MACS: &str = "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,\
                    hmac-sha2-512-etm@openssh.com,hmac-sha1-etm@openssh.com,umac-64@openssh.com,\
                    umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1";
const COMPRESSION: &str = "none,zlib@openssh.com";

/// As far as a key exchange goes without a host key.
pub(super) fn speak(session: &mut Session<'_>) -> Result<(), End> {
    session.send(BANNER)?;
    let id = session.line()?;
    if !id.starts_with(b"SSH-") {
        return session.send("Invalid SSH identification string.\r\n");
    }
    session.send_bytes(&packet(&offer()))?;
    let length = session.exactly(4)?;
    let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    session.exactly(length)?;
    Ok(())
}

fn offer() -> Vec<u8> {
    let mut payload = vec![KEXINIT];
    payload.extend(fastrand::u128(..).to_be_bytes());
    for names in OFFERS {
        payload.extend(u32::try_from(names.len()).unwrap_or(0).to_be_bytes());
        payload.extend(names.as_bytes());
    }
    // No guessed packet follows, and the reserved word.
    payload.extend([0; 5]);
    payload
}

/// RFC 4253, 6: length, padding length, payload, padding.
fn packet(payload: &[u8]) -> Vec<u8> {
    let unpadded = 5 + payload.len();
    let padding = match 8 - unpadded % 8 {
        short @ ..4 => short + 8,
        enough => enough,
    };
    let length = 1 + payload.len() + padding;
    let mut packet = Vec::with_capacity(4 + length);
    packet.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
    packet.push(u8::try_from(padding).unwrap_or(4));
    packet.extend(payload);
    packet.extend(std::iter::repeat_n(0, padding));
    packet
}

#[cfg(test)]
mod tests {
    use super::{offer, packet};

    #[test]
    fn packets_are_padded_as_the_rfc_wants() {
        for length in 0..64 {
            let packet = packet(&vec![1; length]);
            assert_eq!(packet.len() % 8, 0);
            assert!(packet[4] >= 4);
            let announced = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
            assert_eq!(announced as usize, packet.len() - 4);
        }
        assert_eq!(packet(&offer())[5], 20);
    }
}
