//! What is taken for a service account's key, and what its tokens say.

use std::sync::LazyLock;

use jsonwebtoken::{DecodingKey, Validation};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use serde_json::{Value, json};

use super::*;

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("an RSA key"));

/// Google's file, with some of its members changed or (null) taken out.
fn file(changes: &Value) -> Secret {
    let mut file = json!({
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "k1",
        "private_key": KEY.serialize_pem(),
        "client_email": "gate@demo.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    });
    let members = file.as_object_mut().expect("an object");
    members.extend(changes.as_object().expect("an object").clone());
    members.retain(|_, value| !value.is_null());
    Secret::new(file.to_string())
}

fn mistake(changes: &Value) -> String {
    Account::read(&file(changes)).expect_err("not an account")
}

#[test]
fn a_token_is_signed_by_the_account_for_firestore_and_for_an_hour() {
    let account = Account::read(&file(&json!({}))).expect("an account");
    let now = SystemTime::now();
    let fetched = account.token_at(now).expect("a token");
    assert_eq!(fetched.life, LIFE - SKEW);
    let key = DecodingKey::from_rsa_der(KEY.der_bytes());
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[AUDIENCE]);
    let read = jsonwebtoken::decode::<Value>(fetched.token.expose(), &key, &rules).expect("its own signature");
    let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970") - SKEW;
    let email = "gate@demo.iam.gserviceaccount.com";
    let expected = json!({"iss": email, "sub": email, "aud": AUDIENCE, "iat": since.as_secs(), "exp": since.as_secs() + 3600});
    assert_eq!(read.claims, expected);
    assert_eq!(read.header.kid.as_deref(), Some("k1"));
}

#[test]
fn an_account_knows_its_project() {
    let project = |changes| Account::read(&file(&changes)).expect("an account").project();
    assert_eq!(project(json!({})).as_deref(), Some("demo"));
    assert_eq!(project(json!({"project_id": null})), None);
    assert_eq!(project(json!({"project_id": "a/b"})), None);
}

#[test]
fn a_key_whose_line_ends_were_escaped_twice_is_read_all_the_same() {
    let escaped = KEY.serialize_pem().replace('\n', "\\n");
    Account::read(&file(&json!({"private_key": escaped, "universe_domain": null}))).expect("an account");
}

#[test]
fn what_is_no_service_account_is_said_to_be_what_it_is() {
    assert!(mistake(&json!({"type": "authorized_user"})).contains("`authorized_user`"));
    assert!(mistake(&json!({"client_email": null})).contains("client_email"));
    assert!(mistake(&json!({"private_key": null})).contains("private_key"));
    assert!(mistake(&json!({"universe_domain": "example.com"})).contains("universe_domain"));
    for text in ["", "[]", "{", "/path/to/key.json"] {
        assert!(Account::read(&Secret::new(text)).is_err(), "{text}");
    }
}

#[test]
fn no_key_shows_itself() {
    let said = mistake(&json!({"private_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"}));
    assert!(said.contains("private_key") && !said.contains("canary"), "{said}");
    let account = Account::read(&file(&json!({}))).expect("an account");
    assert_eq!(format!("{account:?}"), r#"Account { email: "gate@demo.iam.gserviceaccount.com", .. }"#);
}
