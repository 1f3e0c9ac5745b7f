//! Bundles that can't be used say why, and show no key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use decnet_lifecycle::agent::https::{Identity, IdentityError};

use crate::tls::Ca;

#[test]
fn a_bundle_that_can_t_be_used_says_which_file_and_why() {
    let ca = Ca::new();
    let bundle = ca.issue("w1", "127.0.0.1");
    let (key, certificate) = (bundle.dir.join("worker.key"), bundle.dir.join("worker.crt"));
    let secret = fs::read_to_string(&key).unwrap();
    let inner = secret.lines().nth(1).unwrap();
    let refused = || {
        let error = Identity::load(&bundle.dir).unwrap_err();
        assert!(!error.to_string().contains(inner) && !format!("{error:?}").contains(inner));
        error
    };
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(refused(), IdentityError::KeyIsOpen { mode: told, .. } if told == mode));
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bundle.identity().fingerprint(), bundle.fingerprint);
    assert!(!format!("{:?}", bundle.identity()).contains(inner));

    let other = ca.issue("w2", "127.0.0.1");
    fs::copy(other.dir.join("worker.key"), &key).unwrap();
    assert!(refused().to_string().contains("not the key of"));
    fs::write(&key, "no key").unwrap();
    assert!(refused().to_string().contains("no private key"));
    fs::write(&key, &secret).unwrap();
    for (content, says) in [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\n!!\n", "no PEM")] {
        fs::write(&certificate, content).unwrap();
        assert!(refused().to_string().contains(says), "{}", refused());
    }
    fs::write(&certificate, vec![b'x'; 2 << 20]).unwrap();
    assert!(refused().to_string().contains("too long"));
    fs::remove_file(&certificate).unwrap();
    assert!(refused().to_string().contains("name the folder"));
}
