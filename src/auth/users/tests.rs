//! The users of files of our own, with few iterations and without waiting.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::config::DEFAULT_TIER;
use super::super::scram::{MIN_ITERATIONS, work};
use super::*;
use crate::event::Topic;

const PASSWORD: &str = "correct horse";

fn rounds(n: u32) -> NonZeroU32 {
    check_iterations(n).expect("sound")
}

fn user(password: &str, iterations: u32) -> User {
    let topics = vec!["orders".parse().expect("a grant"), "tele-*".parse().expect("a grant")];
    User::new(&Secret::new(password), rounds(iterations), topics, "gold".into())
}

fn register(users: &[(&str, User)]) -> Register {
    let mut register = Register::empty();
    register.users.extend(users.iter().map(|(name, user)| ((*name).to_owned(), user.clone())));
    register
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    Place { path: folder.path().join("users.toml"), _folder: folder }
}

async fn tried(users: &Users, name: &str, password: &str) -> Result<String, AuthFailure> {
    users.verify_password(name, &Secret::new(password)).await.map(|principal| principal.name().to_owned())
}

#[test]
fn a_file_is_read_as_it_was_written_and_belongs_to_its_owner_alone() {
    let place = place();
    let written = register(&[("ada", user(PASSWORD, MIN_ITERATIONS)), ("b@x.example", user("another one", 5_000))]);
    written.write(&place.path).expect("written");
    assert_eq!(fs::metadata(&place.path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.path.parent().expect("a folder")).expect("a folder").count(), 1, "no draft is left");
    let (read, _) = Register::read(&place.path).expect("read");
    assert_eq!((read.phantom_key, &read.users), (written.phantom_key, &written.users));
    assert!(!fs::read_to_string(&place.path).expect("text").contains(PASSWORD));
    // Once more, over a link: the link stays.
    let link = place.path.with_file_name("link.toml");
    std::os::unix::fs::symlink(&place.path, &link).expect("linked");
    register(&[]).write(&link).expect("written");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert!(Register::read(&place.path).expect("read").0.users.is_empty());
}

#[test]
fn what_is_wrong_with_a_file_is_named_and_its_values_are_not_repeated() {
    let place = place();
    assert!(Register::read(&place.path).expect_err("missing").contains("sluicegate user add"));
    register(&[("ada", user(PASSWORD, MIN_ITERATIONS))]).write(&place.path).expect("written");
    let good = fs::read_to_string(&place.path).expect("text");
    let said = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        fs::write(&place.path, good.replacen(from, to, 1)).expect("written");
        Register::read(&place.path).expect_err(to)
    };
    for (from, to, what) in [
        ("version = 1", "version = 2", "`version` is 2"),
        ("phantom_key = \"", "phantom_key = \"canary", "`phantom_key`"),
        ("iterations = 4096", "iterations = 4095", "users.ada.scram-sha-256: expected 4096"),
        ("salt = \"", "salt = \"canary", "users.ada.scram-sha-256: `salt`"),
        ("tier = \"gold\"", "tier = \"g d\"", "users.ada.tier"),
        ("tier = \"gold\"", "password = \"canary\"", "unknown field `password`"),
        ("\"orders\"", "\"or ders\"", "is not a grant"),
        ("users.ada", "users.\"a:b\"", ""),
    ] {
        let said = said(from, to);
        assert!(said.contains(what) && !said.contains("canary"), "{said}");
    }
    fs::write(&place.path, &good).expect("written");
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o640)).expect("changed");
    assert!(Register::read(&place.path).expect_err("refused").contains("chmod 600"));
}

#[test]
fn a_name_that_does_not_exist_costs_as_much_and_looks_the_same_each_time() {
    let book = |users: &[(&str, User)], key| Book::of(Register { phantom_key: [key; 32], ..register(users) }, Default::default(), 0);
    let users = [("ada", user(PASSWORD, 4_096))];
    let here = book(&users, 1);
    let (right, of_right) = work::of(|| here.check("ada", &Secret::new(PASSWORD)).is_some());
    let (wrong, of_wrong) = work::of(|| here.check("ada", &Secret::new("wrong horse")).is_some());
    let (nobody, of_nobody) = work::of(|| here.check("bob", &Secret::new(PASSWORD)).is_some());
    assert_eq!((right, wrong, nobody), (true, false, false));
    assert_eq!((of_right, of_wrong), ([4_096, 2, 1], of_right));
    assert_eq!(of_nobody, of_right);
    for mechanism in Mechanism::ALL {
        let (known, of_known) = work::of(|| here.claimed("ada", mechanism));
        let (phantom, of_phantom) = work::of(|| here.claimed("bob", mechanism));
        assert_eq!((of_known, known.principal.is_some(), phantom.principal.is_some()), (of_phantom, true, false));
        // The same after a restart and in another instance with the file; another for another name and another file.
        assert_eq!(book(&users, 1).claimed("bob", mechanism).verifier, phantom.verifier);
        assert_ne!(here.claimed("bob2", mechanism).verifier.salt, phantom.verifier.salt);
        assert_ne!(book(&users, 2).claimed("bob", mechanism).verifier.salt, phantom.verifier.salt);
        assert_eq!(phantom.verifier.iterations, known.verifier.iterations);
        let proofs = [vec![0; mechanism.length()], vec![255; mechanism.length()]];
        assert!(proofs.iter().all(|proof| !phantom.verifier.proves(b"messages", proof)));
    }
}

#[test]
fn phantoms_have_the_iterations_that_users_have_and_as_often() {
    let few: Vec<_> = ["a", "b", "c"].map(|name| (name, user(PASSWORD, 4_096))).into();
    let book = Book::of(register(&[few, vec![("d", user(PASSWORD, 9_000))]].concat()), Default::default(), 0);
    let many = (0..4_000).filter(|n| book.claimed(&format!("x{n}"), Mechanism::Sha512).verifier.iterations == rounds(9_000)).count();
    assert!((800..1_200).contains(&many), "{many} of 4000 for one user of four");
    let none = Book::of(register(&[]), Default::default(), 0);
    assert_eq!(none.claimed("x", Mechanism::Sha256).verifier.iterations, rounds(DEFAULT_ITERATIONS));
}

#[tokio::test]
async fn a_user_is_who_the_file_says_until_the_file_says_otherwise() {
    let place = place();
    register(&[("ada", user(PASSWORD, 4_096))]).write(&place.path).expect("written");
    let users = Users::open(Some(&place.path), None).expect("opened");
    let ada = users.verify_password("ada", &Secret::new(PASSWORD)).await.expect("recognized");
    assert_eq!((ada.name(), ada.tier(), ada.expires()), ("users:ada", "gold", None));
    let covers = |topic: &str| ada.grants().cover(&Topic::new(topic).expect("a topic"));
    assert!(covers("orders") && covers("tele-raw") && !covers("events"));
    assert_eq!(tried(&users, "bob", PASSWORD).await, Err(AuthFailure::Signature));
    assert_eq!(tried(&users, "ada", "").await, Err(AuthFailure::Signature));

    let seen = users.look(users.book.load().print);
    register(&[("ada", user("another one", 4_096)), ("bob", user(PASSWORD, 4_096))]).write(&place.path).expect("written");
    let seen = users.look(seen);
    assert_eq!(users.status(), UsersStatus { users: 2, last_error: None });
    assert_eq!(tried(&users, "bob", PASSWORD).await.as_deref(), Ok("users:bob"));
    assert_eq!(tried(&users, "ada", PASSWORD).await, Err(AuthFailure::Signature), "what was remembered is forgotten");

    fs::write(&place.path, "version = 1\nusers = canary").expect("written");
    let seen = users.look(seen);
    assert!(users.status().last_error.expect("said").contains("line 2"));
    assert_eq!(tried(&users, "bob", PASSWORD).await.as_deref(), Ok("users:bob"), "the users as they were stay");
    fs::remove_file(&place.path).expect("removed");
    let seen = users.look(seen);
    assert_eq!((seen, users.status().users), (None, 2));
    register(&[]).write(&place.path).expect("written");
    users.look(seen);
    assert_eq!(users.status(), UsersStatus { users: 0, last_error: None });
    assert_eq!(tried(&users, "bob", PASSWORD).await, Err(AuthFailure::Signature));
}

#[tokio::test]
async fn who_was_let_in_stands_until_the_file_changes_them_whatever_becomes_of_others() {
    let place = place();
    let ada = || ("ada", user(PASSWORD, 4_096));
    let kept = ada();
    register(&[kept.clone(), ("bob", user(PASSWORD, 4_096))]).write(&place.path).expect("written");
    let users = Users::open(Some(&place.path), None).expect("opened");
    let (a, b) = (users.verify_password("ada", &Secret::new(PASSWORD)).await, users.verify_password("bob", &Secret::new(PASSWORD)).await);
    let (a, b) = (a.expect("ada"), b.expect("bob"));
    assert!(users.stands(&a) && users.stands(&b));
    let seen = users.look(users.book.load().print);
    register(&[kept, ("eve", user(PASSWORD, 4_096))]).write(&place.path).expect("written");
    let seen = users.look(seen);
    assert!(users.stands(&a) && !users.stands(&b), "bob is removed");
    register(&[ada()]).write(&place.path).expect("written");
    users.look(seen);
    assert!(!users.stands(&a), "the same password with another salt is another one, as far as anybody can know");
}

#[tokio::test]
async fn a_failure_is_answered_late_and_a_right_password_is_stretched_once() {
    let place = place();
    register(&[("ada", user(PASSWORD, 4_096))]).write(&place.path).expect("written");
    let users = Users::open(Some(&place.path), None).expect("opened");
    for (name, password) in [("ada", "wrong horse"), ("bob", PASSWORD)] {
        let begun = Instant::now();
        assert!(tried(&users, name, password).await.is_err());
        assert!(begun.elapsed() >= FAILURE_DELAY);
    }
    assert!(tried(&users, "ada", PASSWORD).await.is_ok());
    // Nobody has a turn any more: what is right already needs none.
    users.turns.forget_permits(users.turns.available_permits());
    users.places.forget_permits(PLACES);
    assert!(tried(&users, "ada", PASSWORD).await.is_ok());
    assert_eq!(tried(&users, "ada", "wrong horse").await, Err(AuthFailure::Busy));
}

#[tokio::test]
async fn who_hangs_up_does_not_make_room_for_the_next_guess() {
    let place = place();
    register(&[]).write(&place.path).expect("written");
    let users = Users::open(Some(&place.path), None).expect("opened");
    let password = Secret::new(PASSWORD);
    let mut guess = Box::pin(users.verify_password("bob", &password));
    assert!(futures_util::poll!(guess.as_mut()).is_pending());
    drop(guess);
    assert_eq!(users.places.available_permits(), PLACES - 1);
    let begun = Instant::now();
    // The place comes back by itself, and late.
    let all = users.places.acquire_many(PLACES as u32).await.expect("open");
    assert!(begun.elapsed() >= FAILURE_DELAY);
    drop(all);
}

fn given(name: &str, password: &str) -> Given {
    Given { name: name.into(), password: Secret::new(password), topics: vec!["orders".parse().expect("a grant")] }
}

#[tokio::test]
async fn the_configured_user_needs_no_file_and_is_there_beside_one() {
    let alone = Users::open(None, Some(given("ada", PASSWORD))).expect("opened");
    let ada = alone.verify_password("ada", &Secret::new(PASSWORD)).await.expect("recognized");
    assert_eq!((ada.name(), ada.tier()), ("users:ada", DEFAULT_TIER));
    let covers = |topic: &str| ada.grants().cover(&Topic::new(topic).expect("a topic"));
    assert!(covers("orders") && !covers("events"));
    assert_eq!(tried(&alone, "bob", PASSWORD).await, Err(AuthFailure::Signature));
    assert_eq!((alone.look(None), alone.status().users), (None, 1));

    let place = place();
    register(&[("bob", user("another one", 4_096))]).write(&place.path).expect("written");
    let both = Users::open(Some(&place.path), Some(given("ada", PASSWORD))).expect("opened");
    assert_eq!(tried(&both, "ada", PASSWORD).await.as_deref(), Ok("users:ada"));
    assert_eq!(tried(&both, "bob", "another one").await.as_deref(), Ok("users:bob"));
    // A name in both is a mistake, at the start and later.
    let seen = both.book.load().print;
    register(&[("ada", user("another one", 4_096))]).write(&place.path).expect("written");
    both.look(seen);
    assert!(both.status().last_error.expect("said").contains("auth.kafka_user is the same"));
    assert_eq!(tried(&both, "ada", PASSWORD).await.as_deref(), Ok("users:ada"));
    assert!(Users::open(Some(&place.path), Some(given("ada", PASSWORD))).is_err());
    assert!(Users::check(&place.path, Some(&given("ada", PASSWORD))).is_err());
    assert_eq!(Users::check(&place.path, Some(&given("cy", PASSWORD))), Ok(()));
}

#[test]
fn the_configured_users_salt_is_the_same_in_each_instance_and_does_not_tell_that_there_is_one() {
    let place = place();
    register(&[("bob", user(PASSWORD, DEFAULT_ITERATIONS))]).write(&place.path).expect("written");
    for path in [None, Some(place.path.as_path())] {
        let open = |given| Users::open(path, given).expect("opened");
        let (one, other) = (open(Some(given("ada", PASSWORD))), open(Some(given("ada", PASSWORD))));
        let (changed, without) = (open(Some(given("ada", "another one"))), open(Some(given("cy", PASSWORD))));
        for mechanism in Mechanism::ALL {
            let of = |users: &Users| users.claimed("ada", mechanism).verifier;
            assert_eq!(of(&one), of(&other));
            assert_ne!(of(&one).stored_key, of(&changed).stored_key);
            for users in [&changed, &without] {
                assert_eq!((of(users).salt, of(users).iterations), (of(&one).salt, of(&one).iterations));
            }
            assert!(without.claimed("ada", mechanism).principal.is_none());
        }
    }
}
