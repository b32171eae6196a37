//! Which settings of issuers and users are mistakes, and what is said of them.

use super::*;

fn mistakes(toml: &str) -> Vec<String> {
    let config: Config = toml::from_str(toml).expect("the types are right");
    config.mistakes().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_claim_that_says_something_else_makes_no_administrators() {
    let with = |line: &str| {
        mistakes(&format!("[issuers.ci]\nissuer = \"https://issuer.example\"\naudience = \"a\"\ntier_claim = \"tier\"\n{line}"))
    };
    for claim in ["", "sub", "aud", "email_verified", "tier"] {
        assert_eq!(with(&format!("admin_claim = \"{claim}\"")), ["issuers.ci.admin_claim"], "{claim}");
    }
    for admins in ["[\"\"]", "[\"a\", \"a\"]"] {
        assert_eq!(with(&format!("admins = {admins}")), ["issuers.ci.admins"], "{admins}");
    }
    assert!(with("admin_claim = \"admin\"\nadmins = [\"a\", \"b\"]").is_empty());
}

#[test]
fn a_good_configuration_has_no_mistakes() {
    assert!(Config::default().mistakes().is_empty());
    assert!(Config::firebase("demo").mistakes().is_empty());
    let toml = r#"
        [issuers.ci]
        issuer = "https://token.actions.githubusercontent.com"
        audience = "sluicegate"
        topics = ["builds-*"]
        [issuers.backend]
        kind = "static"
        issuer = "backend"
        audience = "sluicegate"
        algorithm = "HS256"
        key = "0123456789abcdef0123456789abcdef"
        [issuers.emulator]
        kind = "firebase"
        project = "demo"
        jwks_url = "http://127.0.0.1:9099/jwks"
    "#;
    assert_eq!(mistakes(toml), Vec::<String>::new());
}

#[test]
fn all_mistakes_are_found_in_one_run() {
    let toml = r#"
        [issuers.a]
        jwks_url = "http://keys.example.com/"
        leeway = "6m"
        [issuers.b]
        kind = "static"
        issuer = "one"
        audience = "x"
        algorithm = "HS256"
        key = "short"
        tier = "a b"
        [issuers.c]
        kind = "static"
        issuer = "one"
        audience = "x"
        [issuers."c:d"]
        kind = "firebase"
        [issuers.e]
        issuer = "just-a-name"
        audience = "x"
        [issuers.f]
        jwks_url = "https://keys.example.com/"
        issuer = ""
        audience = ""
    "#;
    let expected = [
        "issuers.a.issuer",
        "issuers.a.audience",
        "issuers.a.leeway",
        "issuers.a.jwks_url",
        "issuers.b.tier",
        "issuers.b.key",
        "issuers.c.algorithm",
        "issuers.c.issuer",
        "issuers.c:d",
        "issuers.c:d.project",
        "issuers.e.issuer",
        "issuers.f.issuer",
        "issuers.f.audience",
    ];
    assert_eq!(mistakes(toml), expected);
}

#[test]
fn the_one_user_has_a_sound_name_and_a_sound_password_or_neither() {
    let keys = |user: &str, password: &str| {
        let config = Config { kafka_user: Some(user.into()), kafka_password: Secret::new(password), ..Config::default() };
        config.mistakes().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys("ada", "secret word"), Vec::<String>::new());
    assert_eq!(keys("", ""), Vec::<String>::new());
    assert_eq!(keys("", "secret word"), ["kafka_user"]);
    assert_eq!(keys("ada", ""), ["kafka_password"]);
    assert_eq!(keys("a:b", "short"), ["kafka_user", "kafka_password"]);
    let config = Config { kafka_user: Some("ada".into()), kafka_password: Secret::new("canary\u{7}canary"), ..Config::default() };
    assert!(config.lets_somebody_in() && !config.mistakes()[0].1.contains("canary"));
    assert!(!Config { kafka_user: Some(String::new()), ..Config::default() }.lets_somebody_in());
}

#[test]
fn a_key_can_stand_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let issuer = |key_file: &PathBuf| IssuerConfig {
        kind: Kind::Static,
        issuer: Some("backend".into()),
        audience: Some("gate".into()),
        algorithm: Some(Algorithm::HS256),
        key_file: Some(key_file.clone()),
        ..IssuerConfig::default()
    };
    assert_eq!(issuer(&path).mistakes()[0].0, "key_file");
    std::fs::write(&path, format!("{}\n", "k".repeat(32))).expect("written");
    assert!(issuer(&path).mistakes().is_empty());
    let both = IssuerConfig { key: Secret::new("k".repeat(32)), ..issuer(&path) };
    assert_eq!(both.mistakes()[0].0, "key_file");
}
