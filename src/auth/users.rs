//! Who is there by name and password: the users of a verifier file, which may change while the gate runs, and the one user whom
//! the configuration itself names.
//!
//! What always holds: a name that does not exist costs what a wrong password costs and looks like one, by the same number
//! of PBKDF2 rounds and HMACs and a salt that stays the same; passwords are stretched off the reactor, so many at a time
//! and no more; a failure is answered late, and neither its place nor its turn is free before; a broken file is said once,
//! and the users that were there stay.

mod file;
mod given;

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::credentials::AuthFailure;
use super::grants::{Grant, Grants};
use super::principal::Principal;
use super::scram::{Mechanism, SALT_LENGTH, Verifier, hmac_of};
use crate::drain::{Phase, Signal};
use crate::units::Secret;
pub use file::{BAD_NAME, Lock, Register, User, check_iterations, check_tier, is_user_name};
pub use given::Given;

/// What stands before a user's name in the principal's.
pub const USERS_ISSUER: &str = "users";

/// The rounds of PBKDF2 of a new user, unless it is told otherwise.
pub const DEFAULT_ITERATIONS: u32 = 8_192;

/// How long a right password is known without stretching it again.
const MAX_REMEMBERED: Duration = Duration::from_secs(60);

/// How many right passwords are known at once; beyond it the least used are stretched again.
const REMEMBERED: u64 = 10_000;

/// A failure is answered no sooner.
pub(super) const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// After a failure a turn rests so many times as long as it worked: guessing takes a quarter of the processor at most.
const REST: u32 = 3;

/// Passwords that wait for their turn, are stretched, or wait for their bad answer.
const PLACES: usize = 256;

/// How long a password waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between looks at the file.
const POLL: Duration = Duration::from_secs(1);

/// The users.
#[derive(Debug)]
pub struct Users {
    path: Option<PathBuf>,
    given: Option<Given>,
    book: ArcSwap<Book>,
    trouble: Mutex<Option<String>>,
    remembered: Cache<[u8; 32], Remembered>,
    marks: hmac::Key,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// One reading of the file.
#[derive(Debug)]
struct Book {
    print: Option<file::Print>,
    generation: u64,
    users: HashMap<String, Known>,
    phantoms: hmac::Key,
    /// The users' rounds of PBKDF2, sorted. A phantom has one of them, so that phantoms differ as users do.
    rounds: Vec<NonZeroU32>,
}

#[derive(Debug)]
struct Known {
    principal: Principal,
    verifiers: [Verifier; 2],
}

/// A password that was right a moment ago.
#[derive(Clone, Debug)]
struct Remembered {
    principal: Principal,
    verified: Instant,
    generation: u64,
}

/// What an exchange with somebody of this name is made with. Also for names that do not exist.
#[derive(Debug)]
pub struct Claimed {
    /// By what they are recognized: a phantom's for nobody.
    pub verifier: Verifier,
    /// Who it is, once it is proven; none: nobody, whatever is proven.
    pub principal: Option<Principal>,
}

/// What is known of the users, for `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsersStatus {
    /// How many there are.
    pub users: usize,
    /// Why the file that is there now is not in use, if so.
    pub last_error: Option<String>,
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// A password that nobody can guess: 32 characters.
pub fn generated_password() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(random::<24>()))
}

impl User {
    /// A user with this password. Takes as long as the iterations, for each mechanism.
    pub fn new(password: &Secret, iterations: NonZeroU32, topics: Vec<Grant>, tier: String) -> Self {
        let verifiers = Mechanism::ALL.map(|mechanism| Verifier::derive(mechanism, password.expose(), random(), iterations));
        Self { topics, tier, admin: false, verifiers }
    }
}

impl Users {
    /// Reads the file, if there is one, and adds the user who is given. The text of a failure says what is wrong and what to do.
    pub fn open(path: Option<&Path>, given: Option<Given>) -> Result<Self, String> {
        let book = Book::read(path, given.as_ref(), 0)?;
        // Many small turns: what keeps guessing small is the rest after each failure.
        let turns = available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            path: path.map(Path::to_owned),
            given,
            book: ArcSwap::from_pointee(book),
            trouble: Mutex::default(),
            remembered: Cache::builder().max_capacity(REMEMBERED).time_to_live(MAX_REMEMBERED).build(),
            marks: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()),
            places: Arc::new(Semaphore::new(PLACES)),
            turns: Arc::new(Semaphore::new(turns)),
        })
    }

    /// What would keep the users of this file, and the one who is given, from being let in.
    pub fn check(path: &Path, given: Option<&Given>) -> Result<(), String> {
        let (register, _) = Register::read(path)?;
        given.map_or(Ok(()), |given| given.is_not_in(&register))
    }

    /// What an exchange with somebody of this name is made with, by this mechanism.
    pub fn claimed(&self, name: &str, mechanism: Mechanism) -> Claimed {
        self.book.load().claimed(name, mechanism)
    }

    /// Whether it is this user's password. A failure comes late, and when too many are tried at once, most are not tried.
    pub async fn verify_password(&self, name: &str, password: &Secret) -> Result<Principal, AuthFailure> {
        let book = self.book.load_full();
        let mark = self.mark(name, password);
        match self.remembered.get(&mark) {
            Some(known) if known.generation == book.generation && known.verified.elapsed() < MAX_REMEMBERED => return Ok(known.principal),
            _ => {}
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| AuthFailure::Busy)?;
        let attempt = Attempt { book: Arc::clone(&book), name: name.to_owned(), password: password.clone(), place };
        // By itself: who hangs up does not make room for the next guess.
        let tried = tokio::spawn(attempt.made(Arc::clone(&self.turns))).await;
        let principal = tried.unwrap_or(Err(AuthFailure::Busy))?;
        let remembered = Remembered { principal: principal.clone(), verified: Instant::now(), generation: book.generation };
        self.remembered.insert(mark, remembered);
        Ok(principal)
    }

    /// What a name and a password are remembered by. The key is the process's own, and in no file.
    fn mark(&self, name: &str, password: &Secret) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.marks);
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name.as_bytes());
        context.update(password.expose().as_bytes());
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether somebody who was let in would be let in still: not removed since, and with the same password and rights.
    pub fn stands(&self, principal: &Principal) -> bool {
        self.book.load().users.get(principal.subject()).is_some_and(|known| known.principal.is(principal))
    }

    /// What is known of them now.
    pub fn status(&self) -> UsersStatus {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        UsersStatus { users: self.book.load().users.len(), last_error: trouble.clone() }
    }

    /// Takes changes of the file up, until the drain. Without a file there is nothing to do.
    pub async fn watch(self: Arc<Self>, mut drain: Signal) {
        if self.path.is_none() {
            return;
        }
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.book.load().print;
        loop {
            tokio::select! {
                () = drain.reached(Phase::Storing) => return,
                _ = ticks.tick() => {}
            }
            // The file may be on a disk that hangs.
            let users = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || users.look(seen)).await {
                Ok(now) => seen = now,
                Err(error) => return tracing::error!(%error, "the users' file is not watched any more; restart to take changes up"),
            }
        }
    }

    /// Reads the file again if it is another one than was seen. What is there now, as far as it was looked at.
    fn look(&self, seen: Option<file::Print>) -> Option<file::Print> {
        let Some(path) = &self.path else { return seen };
        let print = file::print_of(path);
        if print == seen {
            return seen;
        }
        let before = self.book.load();
        let trouble = match Book::read(Some(path), self.given.as_ref(), before.generation + 1) {
            Ok(mut book) => {
                book.keep_who_is_the_same(&before);
                tracing::info!(file = %path.display(), users = book.users.len(), "the users' file has changed and is in use");
                self.book.store(Arc::new(book));
                self.remembered.invalidate_all();
                None
            }
            Err(error) => {
                tracing::error!(error, "the users' file has changed and cannot be used; the users as they were stay in use");
                Some(error)
            }
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        print
    }
}

impl Book {
    fn read(path: Option<&Path>, given: Option<&Given>, generation: u64) -> Result<Self, String> {
        let (mut register, print) = match path {
            Some(path) => Register::read(path).map(|(register, print)| (register, Some(print)))?,
            None => (Given::alone(), None),
        };
        if let Some(given) = given {
            given.join(&mut register)?;
        }
        Ok(Self::of(register, print, generation))
    }

    fn of(register: Register, print: Option<file::Print>, generation: u64) -> Self {
        let mut rounds: Vec<_> = register.users.values().map(|user| user.verifiers[0].iterations).collect();
        rounds.sort_unstable();
        let known = |(name, user): (String, User)| {
            let principal = Principal::new(USERS_ISSUER, &name, &user.tier, Grants::new(user.topics).with_admin(user.admin), None);
            (name, Known { principal, verifiers: user.verifiers })
        };
        Self { print, generation, phantoms: phantom_key(&register), users: register.users.into_iter().map(known).collect(), rounds }
    }

    /// Whoever has not changed stays the very same principal, so that a long connection of theirs still stands.
    fn keep_who_is_the_same(&mut self, before: &Self) {
        for (name, known) in &mut self.users {
            let same = |old: &&Known| {
                let (old, new) = (&old.principal, &known.principal);
                old.tier() == new.tier() && old.grants() == new.grants()
            };
            if let Some(old) = before.users.get(name).filter(same).filter(|old| old.verifiers == known.verifiers) {
                known.principal = old.principal.clone();
            }
        }
    }

    fn claimed(&self, name: &str, mechanism: Mechanism) -> Claimed {
        // Also for those that exist: it costs the same.
        let phantom = self.phantom(name, mechanism);
        match self.users.get(name) {
            Some(known) => Claimed { verifier: known.verifiers[mechanism as usize].clone(), principal: Some(known.principal.clone()) },
            None => Claimed { verifier: phantom, principal: None },
        }
    }

    /// The verifier of a user that does not exist: always the same for a name, and like all others.
    fn phantom(&self, name: &str, mechanism: Mechanism) -> Verifier {
        let (fraction, salts) = drawn(&self.phantoms, name);
        let usual = NonZeroU32::new(DEFAULT_ITERATIONS).expect("not zero");
        let place = (u128::from(fraction) * self.rounds.len() as u128) >> u64::BITS;
        Verifier {
            mechanism,
            salt: salts[mechanism as usize],
            iterations: self.rounds.get(place as usize).copied().unwrap_or(usual),
            stored_key: vec![0; mechanism.length()],
            server_key: vec![0; mechanism.length()],
        }
    }

    /// Whether it is this user's password. Takes as long for those who do not exist.
    fn check(&self, name: &str, password: &Secret) -> Option<Principal> {
        let claimed = self.claimed(name, Mechanism::Sha256);
        let matches = claimed.verifier.matches(password.expose());
        claimed.principal.filter(|_| matches)
    }
}

fn phantom_key(register: &Register) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA512, &register.phantom_key)
}

/// What a name draws, always the same: a fraction of 2⁶⁴, and a salt for each mechanism.
fn drawn(phantoms: &hmac::Key, name: &str) -> (u64, [[u8; SALT_LENGTH]; 2]) {
    let drawn = hmac_of(phantoms, name.as_bytes());
    let (of_fraction, of_salts) = drawn.split_at(size_of::<u64>());
    let fraction = of_fraction.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    let salt = |mechanism| of_salts[mechanism as usize * SALT_LENGTH..][..SALT_LENGTH].try_into().expect("as many as a salt has");
    (fraction, Mechanism::ALL.map(salt))
}

/// A password that nobody knows to be right yet.
struct Attempt {
    book: Arc<Book>,
    name: String,
    password: Secret,
    place: OwnedSemaphorePermit,
}

impl Attempt {
    async fn made(self, turns: Arc<Semaphore>) -> Result<Principal, AuthFailure> {
        let Self { book, name, password, place } = self;
        let turn = timeout(PATIENCE, turns.acquire_owned()).await;
        let turn = turn.map_err(|_| AuthFailure::Busy)?.expect("turns are never closed");
        let stretched = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            (book.check(&name, &password), begun.elapsed())
        });
        let (principal, took) = stretched.await.map_err(|_| AuthFailure::Busy)?;
        if let Some(principal) = principal {
            return Ok(principal);
        }
        let answer = Instant::now() + FAILURE_DELAY;
        sleep(took * REST).await;
        drop(turn);
        sleep_until(answer).await;
        drop(place);
        Err(AuthFailure::Signature)
    }
}

#[cfg(test)]
mod tests;
