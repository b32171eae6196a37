//! An issuer of tokens, as an OIDC provider is one: RS256 keys, published as a JWKS on loopback.
//!
//! What always holds: it counts each request for its keys; it answers as it was last told to; it ends when dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use super::DEADLINE;

/// The issuer: its keys, and the listener that publishes them.
pub struct Issuer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    published: Mutex<Published>,
    /// Who answers late looks whether it still is to.
    told: Condvar,
    requests: AtomicUsize,
    ended: AtomicBool,
}

struct Published {
    keys: Vec<SigningKey>,
    /// `max-age` of the answer, in seconds.
    max_age: u64,
    /// The status of every answer until told otherwise.
    status: u16,
    /// How late every answer comes.
    delay: Duration,
    /// Nothing is published of the keys.
    hidden: bool,
}

struct SigningKey {
    id: String,
    private: EncodingKey,
    public: Value,
}

impl SigningKey {
    fn generate(number: usize) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("an RSA key");
        let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("PKCS#8");
        let id = format!("k{number}");
        let mut public = Jwk::from_encoding_key(&private, Algorithm::RS256).expect("a public key");
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        public.common.key_algorithm = Some(KeyAlgorithm::RS256);
        Self { id, private, public: serde_json::to_value(public).expect("a JWK is JSON") }
    }
}

impl Issuer {
    /// Starts one with one key, `k1`, that may be kept for an hour.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let published = Published { keys: vec![SigningKey::generate(1)], max_age: 3600, status: 200, delay: Duration::ZERO, hidden: false };
        let shared =
            Shared { published: Mutex::new(published), told: Condvar::new(), requests: AtomicUsize::new(0), ended: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten().take_while(|_| !served.ended.load(Ordering::SeqCst)) {
                let served = served.clone();
                std::thread::spawn(move || served.answer(&stream));
            }
        });
        Self { address, shared }
    }

    /// Its name: the `iss` of its tokens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its keys are.
    pub fn jwks_url(&self) -> String {
        format!("{}/jwks.json", self.url())
    }

    /// How often its keys were asked for.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// From now on every request for the keys is answered with this status; 200 is the normal one.
    pub fn answer_with(&self, status: u16) {
        self.published().status = status;
    }

    /// From now on every answer comes so late. Those that wait already come when that is over, if it is earlier.
    pub fn answer_late(&self, by: Duration) {
        self.published().delay = by;
        self.shared.told.notify_all();
    }

    /// From now on the set of keys is empty (`{"keys":[]}`), or is not any more.
    pub fn publish_nothing(&self, hidden: bool) {
        self.published().hidden = hidden;
    }

    /// From now on the keys may be kept for this long.
    pub fn max_age(&self, seconds: u64) {
        self.published().max_age = seconds;
    }

    /// A new key signs from now on; the old ones are not published any more. Says the new one's id.
    pub fn rotate(&self) -> String {
        let mut published = self.published();
        let number = published.keys.last().map_or(0, |key| key.id[1..].parse().expect("k and a number")) + 1;
        published.keys = vec![SigningKey::generate(number)];
        format!("k{number}")
    }

    /// A token with these claims; those that are missing (`iss`, `aud` = "test", `sub` = "u1", `iat`, `exp` in an hour)
    /// are added, those that are null are left out.
    pub fn token(&self, claims: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let mut all = json!({"iss": self.url(), "aud": "test", "sub": "u1", "iat": now, "exp": now + 3600});
        let all_claims = all.as_object_mut().expect("an object");
        all_claims.extend(claims.as_object().expect("an object").clone());
        all_claims.retain(|_, value| !value.is_null());
        let published = self.published();
        let key = published.keys.last().expect("at least one key");
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(key.id.clone());
        jsonwebtoken::encode(&header, &all, &key.private).expect("a token")
    }

    /// An ID token as Firebase makes it for a user of a project.
    pub fn firebase_token(&self, project: &str, uid: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let issuer = format!("https://securetoken.google.com/{project}");
        self.token(&json!({"iss": issuer, "aud": project, "sub": uid, "user_id": uid, "auth_time": now}))
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.shared.published.lock().expect("nobody panics with it")
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.answer_late(Duration::ZERO);
        drop(TcpStream::connect(self.address)); // Wakes the listener, which sees that it has ended.
    }
}

impl Shared {
    /// What is published when the time of an answer has come.
    fn after_delay(&self) -> MutexGuard<'_, Published> {
        let since = Instant::now();
        let mut published = self.published.lock().expect("nobody panics with it");
        while let Some(left) = published.delay.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
            published = self.told.wait_timeout(published, left).expect("nobody panics with it").0;
        }
        published
    }

    /// Answers one request and closes: the gate asks seldom.
    fn answer(&self, mut stream: &TcpStream) {
        drop(stream.set_read_timeout(Some(DEADLINE)));
        let mut lines = BufReader::new(stream).lines();
        let Some(Ok(request)) = lines.next() else { return };
        for line in lines.by_ref() {
            match line {
                Ok(header) if !header.is_empty() => {}
                _ => break,
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path == "/jwks.json" {
            self.requests.fetch_add(1, Ordering::SeqCst);
        }
        let (status, max_age, keys) = {
            let published = self.after_delay();
            let keys: Vec<_> = published.keys.iter().filter(|_| !published.hidden).map(|key| key.public.clone()).collect();
            (published.status, published.max_age, json!({ "keys": keys }))
        };
        let (status, body) = match path {
            "/jwks.json" => (status, if status == 200 { keys.to_string() } else { String::new() }),
            _ => (404, String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncache-control: public, max-age={max_age}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        drop(stream.write_all((head + &body).as_bytes()));
    }
}
