//! The admin listener: probes, metrics, status and the inbox's commands, apart from all doors.
//!
//! What always holds: it is bound to loopback unless configured otherwise; a command is taken only from this machine and
//! never from somebody's web page; it answers until the process ends, so that the drain can be watched; it shows no
//! principal, no payload and no credential. It reads snapshots and owns nothing.

mod ask;
mod serve;
pub mod status;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::telemetry::metrics;
use crate::telemetry::metrics::CONTENT_TYPE as METRICS_TYPE;
pub use ask::{ask_status, send};
pub use serve::bind;
pub use status::Status;

/// A command must carry this header, which no web page can send across origins without asking first.
pub const COMMAND_HEADER: &str = "x-sluicegate-admin";

const MAX_COMMAND_BYTES: usize = 64 * 1024;
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The listener for operators: `/livez`, `/readyz`, `/metrics`, `/status`, a status page, and the inbox's commands.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is an admin listener. Without it, `sluicegate inbox replay` and `purge` work only while no gate runs.
    /// Default: true.
    pub enabled: bool,
    /// Address and port, in plain HTTP. It has no credentials: beyond loopback, whoever reaches it reads metrics and status
    /// (commands stay on this machine). At most 64 connections. Default: 127.0.0.1:8444.
    pub bind: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8444) }
    }
}

impl Config {
    /// Every mistake in these settings. There is none that types do not catch.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// What the admin listener can ask of the gate.
pub struct Admin {
    /// A snapshot. It must not wait for anything.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// Whether the gate should be sent traffic; if not, why, one sentence for each reason.
    pub ready: Box<dyn Fn() -> Result<(), Vec<String>> + Send + Sync>,
    /// Carries out a command; the number of rows it touched, or why it was not done.
    pub command: Box<dyn Fn(Command) -> BoxFuture<'static, Result<u64, String>> + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

/// What an operator can have done to the inbox while the gate runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send the rows on now; poison gets another chance.
    Replay(Selection),
    /// Delete the rows for good.
    Purge(Selection),
}

/// Which rows of the inbox; all conditions must hold. The body of a command, as JSON; an empty body selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Those of this topic.
    pub topic: Option<String>,
    /// Only those set aside as poison.
    pub poison: bool,
    /// Said on purpose: everything. Purging needs this or a condition.
    pub all: bool,
}

impl Command {
    fn path(&self) -> &'static str {
        match self {
            Self::Replay(_) => "/inbox/replay",
            Self::Purge(_) => "/inbox/purge",
        }
    }

    fn selection(&self) -> &Selection {
        match self {
            Self::Replay(selection) | Self::Purge(selection) => selection,
        }
    }
}

impl Selection {
    fn is_everything(&self) -> bool {
        self.topic.is_none() && !self.poison
    }
}

type Answer = Response<Full<Bytes>>;

/// From where a request came, and to where.
#[derive(Clone, Copy, Debug)]
struct Ends {
    peer: SocketAddr,
    bound: SocketAddr,
}

impl Admin {
    /// Answers one request. A panic in it is this request's 500 and nobody else's.
    async fn answer<B>(&self, request: Request<B>, ends: Ends) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match AssertUnwindSafe(self.route(request, ends)).catch_unwind().await {
            Ok(answer) => answer,
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "an internal error; see the log\n"),
        }
    }

    async fn route<B>(&self, request: Request<B>, ends: Ends) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        let command: Option<fn(Selection) -> Command> = match path {
            "/inbox/replay" => Some(Command::Replay),
            "/inbox/purge" => Some(Command::Purge),
            _ => None,
        };
        let allowed = if command.is_some() { "POST" } else { "GET, HEAD" };
        if !allowed.split(", ").any(|method| method == request.method()) && (command.is_some() || self.read(path).is_some()) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return answer;
        }
        match command {
            Some(command) => self.command(command, request, ends).await,
            // A web page anywhere can make its own name point at this machine; the Host it sends gives it away.
            None if ends.bound.ip().is_loopback() && !is_probe(path) && !is_local(&request) => {
                text(StatusCode::FORBIDDEN, "the Host must be this machine's: localhost or a loopback address\n")
            }
            None => self
                .read(path)
                .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "no such page; there are / /livez /readyz /metrics /status\n")),
        }
    }

    /// The pages that only show.
    fn read(&self, path: &str) -> Option<Answer> {
        Some(match path {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" => match (self.ready)() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(reasons) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", reasons.join("\n"))),
            },
            "/metrics" => {
                (self.status)().set_gauges(metrics());
                answer(StatusCode::OK, METRICS_TYPE, metrics().encode())
            }
            "/status" => answer(StatusCode::OK, JSON, self.status_text()),
            "/" => answer(StatusCode::OK, "text/html; charset=utf-8", include_str!("admin/page/index.html")),
            "/page.css" => answer(StatusCode::OK, "text/css; charset=utf-8", include_str!("admin/page/page.css")),
            "/page.js" => answer(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("admin/page/page.js")),
            _ => return None,
        })
    }

    fn status_text(&self) -> String {
        let status = (self.status)();
        let reasons = (self.ready)().err().unwrap_or_default();
        let page = status::Page { ready: reasons.is_empty(), not_ready: &reasons, status: &status, events: status::Events::counted() };
        let mut text = serde_json::to_string_pretty(&page).expect("strings and numbers only");
        text.push('\n');
        text
    }

    async fn command<B>(&self, command: fn(Selection) -> Command, request: Request<B>, ends: Ends) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !ends.peer.ip().to_canonical().is_loopback() || !is_local(&request) {
            return fault(StatusCode::FORBIDDEN, "commands are taken only from this machine, by a loopback address");
        }
        if request.headers().get(COMMAND_HEADER).is_none_or(|value| value != "1") {
            return fault(StatusCode::FORBIDDEN, "a command carries the header `x-sluicegate-admin: 1`");
        }
        let body = match tokio::time::timeout(COMMAND_DEADLINE, Limited::new(request.into_body(), MAX_COMMAND_BYTES).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return fault(StatusCode::BAD_REQUEST, "the body could not be read, or is larger than 64 KiB"),
            Err(_) => return fault(StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s"),
        };
        let selection = match body.is_empty() {
            true => Ok(Selection::default()),
            false => serde_json::from_slice::<Selection>(&body),
        };
        let command = match selection.map(command) {
            Ok(Command::Purge(selection)) if selection.is_everything() && !selection.all => {
                return fault(StatusCode::BAD_REQUEST, "a purge needs `topic`, `poison` or `all`");
            }
            Ok(command) => command,
            Err(wrong) => return fault(StatusCode::BAD_REQUEST, &format!("the body is not a selection: {wrong}")),
        };
        tracing::info!(?command, "an operator's command");
        // A task of its own: who hangs up does not stop what is half done.
        match tokio::spawn((self.command)(command)).await {
            Ok(Ok(rows)) => answer(StatusCode::OK, JSON, json!({ "rows": rows }).to_string()),
            Ok(Err(why)) => fault(StatusCode::SERVICE_UNAVAILABLE, &why),
            Err(_) => fault(StatusCode::INTERNAL_SERVER_ERROR, "an internal error; see the log"),
        }
    }
}

/// Probes come by whatever name the orchestrator uses, and say nothing worth stealing.
fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

fn is_local<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, TEXT, body)
}

fn fault(status: StatusCode, why: &str) -> Answer {
    answer(status, JSON, json!({ "error": why }).to_string())
}

fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests;
