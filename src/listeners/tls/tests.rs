//! Certificates that are refused, swapped and kept, and handshakes that never end.

use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

use super::*;
use crate::units::Span;

/// Writes a certificate that is good from and to so many days from now.
fn issue(dir: &Path, from: i64, to: i64) -> KeyPair {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_before = OffsetDateTime::now_utc() + time::Duration::days(from);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(to);
    fs::write(dir.join("cert.pem"), params.self_signed(&key).expect("signed").pem()).expect("written");
    fs::write(dir.join("key.pem"), key.serialize_pem()).expect("written");
    key
}

fn config(dir: &Path) -> Config {
    let file = |name: &str| Some(dir.join(name));
    Config { tls: TlsMode::Files, cert_file: file("cert.pem"), key_file: file("key.pem"), ..Config::default() }
}

fn opened(config: &Config) -> io::Result<Option<Arc<Tls>>> {
    Certificates::new(config).tls(&config.places()[0])
}

fn refused(dir: &Path) -> String {
    opened(&config(dir)).expect_err("refused").to_string()
}

#[test]
fn a_certificate_of_no_use_is_refused_at_the_start_and_the_reason_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    assert!(refused(dir).contains("cannot be read"), "{}", refused(dir));
    issue(dir, -10, -1);
    assert!(refused(dir).contains("expired at"), "{}", refused(dir));
    issue(dir, 1, 10);
    assert!(refused(dir).contains("not valid before"), "{}", refused(dir));
    issue(dir, -1, 10);
    fs::write(dir.join("key.pem"), KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    assert!(refused(dir).contains("is not the key of"), "{}", refused(dir));
    fs::write(dir.join("key.pem"), "nothing").expect("written");
    assert!(refused(dir).contains("listeners.key_file"), "{}", refused(dir));
    fs::write(dir.join("cert.pem"), "nothing").expect("written");
    assert!(refused(dir).contains("no certificate"), "{}", refused(dir));
    issue(dir, -1, 10);
    assert!(opened(&config(dir)).is_ok_and(|tls| tls.is_some()));
}

#[test]
fn listeners_with_the_same_certificate_share_it_and_its_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    issue(folder.path(), -1, 10);
    let config = config(folder.path());
    let place = config.places().remove(0);
    let mut certificates = Certificates::new(&config);
    let (one, two) = (certificates.tls(&place).expect("good").expect("on"), certificates.tls(&place).expect("good").expect("on"));
    assert!(Arc::ptr_eq(&one, &two));
    fs::copy(folder.path().join("cert.pem"), folder.path().join("other.pem")).expect("copied");
    let other = Place { cert_file: Some(folder.path().join("other.pem")), ..place };
    let three = certificates.tls(&other).expect("good").expect("on");
    assert!(!Arc::ptr_eq(&one, &three) && Arc::ptr_eq(&one.shared, &three.shared));
    assert!(certificates.tls(&Place { tls: TlsMode::Off, ..other }).expect("nothing").is_none());
}

#[test]
fn a_changed_pair_is_taken_up_and_a_broken_one_keeps_the_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    issue(dir, -1, 10);
    let tls = opened(&config(dir)).expect("good").expect("on");
    let now = SystemTime::now();
    let mut watched = Watched { seen: tls.current.0.load().print.clone(), doubted: None, warned: now };
    let serial = || tls.current.0.load().key.cert[0].clone();
    let first = serial();

    tls.look(&mut watched, false, now);
    assert_eq!(serial(), first, "nothing has changed");
    fs::write(dir.join("key.pem"), KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    tls.look(&mut watched, false, now);
    assert!(watched.doubted.is_some(), "the first look only doubts");
    tls.look(&mut watched, false, now);
    assert_eq!((serial(), watched.doubted.is_some()), (first.clone(), false));

    issue(dir, -1, 20);
    tls.look(&mut watched, false, now);
    let second = serial();
    assert_ne!(second, first);

    // As a mounted secret changes: the link, not the file.
    let other = dir.join("other");
    fs::create_dir(&other).expect("a folder");
    issue(&other, -1, 30);
    for name in ["cert.pem", "key.pem"] {
        fs::remove_file(dir.join(name)).expect("removed");
        std::os::unix::fs::symlink(other.join(name), dir.join(name)).expect("a link");
    }
    tls.look(&mut watched, false, now);
    assert_ne!(serial(), second);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_ends_at_its_deadline_and_takes_nobodys_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    issue(folder.path(), -1, 10);
    let config = Config { max_handshakes: 1, handshake_timeout: Span::secs(5), ..config(folder.path()) };
    let tls = opened(&config).expect("good").expect("on");
    let (_silent, server) = tokio::io::duplex(1024);
    let begun = tokio::time::Instant::now();
    assert!(tls.accept(server).await.is_none());
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert_eq!(tls.shared.handshakes.available_permits(), 1);
}
