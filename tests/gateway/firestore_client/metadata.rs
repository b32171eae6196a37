//! A metadata server: it hands out what it was told to.
//!
//! What always holds: it counts what it is asked, answers nobody who does not say `Metadata-Flavor: Google`, says the same itself
//! unless it is told not to, and ends when it is dropped.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const PROJECT: &str = "/computeMetadata/v1/project/project-id";

/// The server, until it is dropped.
pub struct Metadata {
    port: u16,
    told: Arc<Mutex<Told>>,
    serving: JoinHandle<()>,
}

struct Told {
    tokens: Vec<Handed>,
    asked: usize,
    disguised: bool,
}

/// A token as it is handed out, and for how many seconds; none: 503.
pub type Handed = Option<(&'static str, u64)>;

impl Metadata {
    /// Hands out these tokens one after the other, and the last one for ever.
    pub async fn start(tokens: &[Handed]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let told = Arc::new(Mutex::new(Told { tokens: tokens.to_vec(), asked: 0, disguised: false }));
        let serving = tokio::spawn({
            let told = Arc::clone(&told);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, Arc::clone(&told)));
                }
            }
        });
        Self { port, told, serving }
    }

    /// The value of `GCE_METADATA_HOST`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it does not say what it is.
    pub fn disguise(&self) {
        self.told.lock().expect("nobody panics with it").disguised = true;
    }

    /// How often a token was asked for.
    pub fn asked(&self) -> usize {
        self.told.lock().expect("nobody panics with it").asked
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Told {
    fn token(&mut self) -> (u16, String) {
        let token = self.tokens[self.asked.min(self.tokens.len() - 1)];
        self.asked += 1;
        match token {
            Some((token, life)) => (200, format!(r#"{{"access_token":"{token}","expires_in":{life},"token_type":"Bearer"}}"#)),
            None => (503, String::new()),
        }
    }
}

/// Answers one request and closes.
async fn answer(stream: TcpStream, told: Arc<Mutex<Told>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let flavor = head.lines().any(|line| line.eq_ignore_ascii_case("metadata-flavor: Google"));
    let says = if told.lock().expect("nobody panics with it").disguised { "" } else { "metadata-flavor: Google\r\n" };
    let (status, body) = match head.split(' ').nth(1) {
        _ if !flavor => (403, String::new()),
        Some(TOKEN) => told.lock().expect("nobody panics with it").token(),
        Some(PROJECT) => (200, "demo".to_owned()),
        _ => (404, String::new()),
    };
    let answer = format!("HTTP/1.1 {status} X\r\n{says}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    drop(stream.get_mut().write_all(answer.as_bytes()).await);
}
