//! The messages, with the example of RFC 7677 and with what clients must not say.

use super::super::super::grants::Grants;
use super::super::super::scram::work;
use super::*;

const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

fn pencil(principal: Option<Principal>) -> Claimed {
    let salt = STANDARD.decode(SALT).expect("base64").try_into().expect("16 bytes");
    let rounds = NonZeroU32::new(MIN_ITERATIONS).expect("not zero");
    Claimed { verifier: Verifier::derive(Mechanism::Sha256, "pencil", salt, rounds), principal }
}

fn user() -> Claimed {
    pencil(Some(Principal::for_tests("users", "user", Grants::default())))
}

fn challenged(first: &str) -> Result<(Challenge, String), AuthFailure> {
    challenge(first.as_bytes(), NONCE, |_| user())
}

fn answered(first: &str, last: &str, may_repeat: bool) -> Result<Proven, AuthFailure> {
    challenged(first)?.0.answer(last.as_bytes(), may_repeat)
}

/// The last message of somebody who knows the password, with these attributes before the proof.
fn proof(first_bare: &str, without_proof: &str) -> String {
    let said = format!("{first_bare},r=rOprNGfwEbeRWgbNEkqO{NONCE},s={SALT},i=4096,{without_proof}");
    let hmac = |key: &[u8], text: &[u8]| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        aws_lc_rs::hmac::sign(&key, text).as_ref().to_vec()
    };
    let mut salted = vec![0; 32];
    let salt = STANDARD.decode(SALT).expect("base64");
    let rounds = NonZeroU32::new(MIN_ITERATIONS).expect("not zero");
    aws_lc_rs::pbkdf2::derive(aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, b"pencil", &mut salted);
    let client_key = hmac(&salted, b"Client Key");
    let stored_key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &client_key);
    let signature = hmac(stored_key.as_ref(), said.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(one, other)| one ^ other).collect();
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

#[test]
fn the_example_of_rfc_7677_is_spoken_word_by_word() {
    let (challenge, said) = challenged(FIRST).expect("answered");
    assert_eq!(said, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let proven = challenge.answer(LAST.as_bytes(), false).expect("proven");
    assert_eq!(proven.message, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!((proven.principal.name(), proven.repeated), ("users:user", false));
    assert_eq!(proof("n=user,r=rOprNGfwEbeRWgbNEkqO", LAST.split(",p=").next().expect("a start")), LAST, "the tests' own client agrees");
}

#[test]
fn whoever_proves_it_for_a_name_that_is_nobodys_is_nobody() {
    let (challenge, _) = challenge(FIRST.as_bytes(), NONCE, |_| pencil(None)).expect("answered");
    assert_eq!(challenge.answer(LAST.as_bytes(), true).err(), Some(AuthFailure::Signature));
}

#[test]
fn the_first_message_is_understood_as_a_whole_or_refused() {
    let nonce = "r=rOprNGfwEbeRWgbNEkqO";
    for good in ["y,,n=user,R", "n,a=user,n=user,R", "n,a=a=2Cb,n=a=2Cb,R", "n,,n=user,R,x=1", "n,,n=üser,R,X==,z=q"] {
        assert!(challenged(&good.replace('R', nonce)).is_ok(), "{good}");
    }
    for header in [
        "p=tls-unique,,n=user,R",
        "n,a=other,n=user,R",
        "n,,m=ext,n=user,R",
        "n,,n=user,R,m=ext",
        "n,,n=user,R,tokenauth=true",
        "n,,n=user,R,tokenauth=false",
        "n,,n=user,R,r=again",
        "n,,n=user,R,n=other",
    ] {
        assert_eq!(challenged(&header.replace('R', nonce)).err(), Some(AuthFailure::Header), "{header}");
    }
    for text in [
        "",
        "n,,",
        "n=user,R",
        "n,,R,n=user",
        "n,,n=,R",
        "n,,n=a=b,R",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=ü",
        "n,,n=user,r=a b",
        "n,,n=user,r=\u{7f}",
        "n,,n=user,R,",
        "n,,n=user,R,x",
        "n,,n=user,R,x=",
        "n,a=,n=user,R",
        "z,,n=user,R",
    ] {
        assert_eq!(challenged(&text.replace('R', nonce)).err(), Some(AuthFailure::Malformed), "{text:?}");
    }
    assert_eq!(challenge(b"n,,n=us\xffer,r=x", NONCE, |_| user()).err(), Some(AuthFailure::Malformed));
    assert_eq!(challenged(&format!("n,,n={},{nonce}", "x".repeat(MAX_MESSAGE))).err(), Some(AuthFailure::TooLong));
}

#[test]
fn the_last_message_repeats_the_header_and_the_nonce_and_is_covered_by_the_proof() {
    let nonce = format!("r=rOprNGfwEbeRWgbNEkqO{NONCE}");
    let bare = "n=user,r=rOprNGfwEbeRWgbNEkqO";
    let say =
        |without_proof: &str| answered(FIRST, &proof(bare, &without_proof.replace("NONCE", &nonce)), true).map(|proven| proven.repeated);
    assert_eq!(say("c=biws,NONCE"), Ok(false));
    assert_eq!(say("c=biws,NONCE,x=ignored"), Ok(false));
    for without_proof in
        ["c=eSws,NONCE", "c=,NONCE", "c=biws,r=other", "c=biws,NONCEx", "c=biws,r=rOprNGfwEbeRWgbNEkqO", "c=biws,NONCE,m=x"]
    {
        assert_eq!(say(without_proof), Err(AuthFailure::Header), "{without_proof}");
    }
    for without_proof in ["NONCE,c=biws", "c=biws", "c=biw,NONCE", "c=biws,NONCE,", "c=*,NONCE"] {
        assert_eq!(say(without_proof), Err(AuthFailure::Malformed), "{without_proof}");
    }
    // As whom: the header that comes again is the one that came, byte by byte.
    let as_user = |header: &str| {
        let last = proof(bare, &format!("c={},{nonce}", STANDARD.encode(header)));
        answered("n,a=user,n=user,r=rOprNGfwEbeRWgbNEkqO", &last, false).is_ok()
    };
    assert!(as_user("n,a=user,") && !as_user("n,,") && !as_user("y,a=user,"));
    for last in ["", "c=biws", &LAST.replace(",p=", ",q="), &LAST.replace("VQ=", "VQ"), &format!("{LAST},x=1"), &format!("{LAST},p=AAAA")] {
        assert!(answered(FIRST, last, true).is_err(), "{last}");
    }
    for proof in ["AAAA", "", &STANDARD.encode([0; 32]), &STANDARD.encode([0; 33])] {
        let last = format!("c=biws,{nonce},p={proof}");
        assert_eq!(answered(FIRST, &last, true).err(), Some(AuthFailure::Signature), "{last}");
    }
    assert_eq!(answered(FIRST, &format!("{LAST}{}", "A".repeat(MAX_MESSAGE)), true).err(), Some(AuthFailure::TooLong));
}

#[test]
fn the_clients_half_of_the_nonce_may_come_twice_where_that_is_allowed_and_in_no_other_form() {
    let (own, bare) = ("rOprNGfwEbeRWgbNEkqO", "n=user,r=rOprNGfwEbeRWgbNEkqO");
    let say =
        |nonce: &str, may_repeat| answered(FIRST, &proof(bare, &format!("c=biws,r={nonce}")), may_repeat).map(|proven| proven.repeated);
    let repeated = format!("{own}{own}{NONCE}");
    assert_eq!(say(&repeated, true), Ok(true));
    assert_eq!(say(&repeated, false), Err(AuthFailure::Header));
    let loose = [
        format!("{own}{own}{own}{NONCE}"),
        format!("x{own}{NONCE}"),
        format!("{own}{NONCE}{NONCE}"),
        NONCE.to_owned(),
        format!("{own}x{NONCE}"),
    ];
    for nonce in &loose {
        assert_eq!(say(nonce, true), Err(AuthFailure::Header), "{nonce}");
    }
    // The proof covers what was said, not what should have been.
    let other = LAST.replace(own, &format!("{own}{own}"));
    assert_eq!(answered(FIRST, &other, true).err(), Some(AuthFailure::Signature));
}

#[test]
fn right_wrong_and_nobody_cost_the_same_hmacs_and_hashes() {
    let of = |claimed: fn() -> Claimed, last: &str| {
        let claimed = claimed();
        work::of(|| challenge(FIRST.as_bytes(), NONCE, |_| claimed).expect("answered").0.answer(last.as_bytes(), false).is_ok())
    };
    let wrong = LAST.replace("dHzb", "AHzb");
    let (right, work) = of(user, LAST);
    assert!(right);
    assert_eq!(of(user, &wrong), (false, work));
    assert_eq!(of(|| pencil(None), LAST), (false, work));
    assert_eq!(of(|| pencil(None), &wrong), (false, work));
    assert_eq!(work, [0, 2, 1], "two HMACs and one hash: no password is stretched");
}

#[test]
fn a_nonce_is_new_each_time_and_has_no_comma() {
    let (one, other) = (nonce(), nonce());
    assert_eq!((one.len(), one == other), (32, false));
    assert!(one.bytes().all(|b| b.is_ascii_graphic() && b != b','));
}
