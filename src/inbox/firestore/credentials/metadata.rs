//! The metadata server of Google's machines and containers: it knows the account that they run as, and its project.
//!
//! What always holds: it is asked in the clear, as it must be, and only where the configuration says; an answer ends within
//! [`MAX_TIME`], is at most [`MAX_BYTES`] long, and is believed only of who says to be a metadata server.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::super::config::is_project;
use super::Fetched;
use crate::units::Secret;

/// The most time that one answer takes.
const MAX_TIME: Duration = Duration::from_secs(3);

/// The longest answer that is read.
const MAX_BYTES: usize = 64 << 10;

const TOKEN: &str = "instance/service-accounts/default/token";
const PROJECT: &str = "project/project-id";

/// The server's place, and a client for it.
#[derive(Debug)]
pub(super) struct Metadata {
    host: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Secret,
    expires_in: u64,
}

impl Metadata {
    /// A client; nothing is asked yet.
    pub(super) fn new(host: &str) -> Self {
        // A question an hour needs no idle connection.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Self { host: host.to_owned(), client }
    }

    /// The account's token.
    pub(super) async fn token(&self) -> Result<Fetched, String> {
        let body = self.ask(TOKEN).await?;
        // The library's words would quote the token.
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| self.at("no token in its answer"))?;
        Ok(Fetched { token: answer.access_token, life: Duration::from_secs(answer.expires_in) })
    }

    /// The project, for one who cannot wait otherwise: on a thread and a runtime of its own.
    pub(super) fn project_blocking(&self) -> Result<String, String> {
        let host = self.host.clone();
        let ask = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
            let project = runtime.block_on(async { Self::new(&host).project().await });
            // A look-up of the name may hang for longer than anybody waits for it.
            runtime.shutdown_background();
            project
        };
        std::thread::spawn(ask).join().unwrap_or_else(|_| Err("the metadata server's project could not be asked for".to_owned()))
    }

    async fn project(&self) -> Result<String, String> {
        let body = self.ask(PROJECT).await?;
        let project = String::from_utf8_lossy(&body).trim().to_owned();
        if is_project(&project) { Ok(project) } else { Err(self.at("no project in its answer")) }
    }

    async fn ask(&self, what: &str) -> Result<Bytes, String> {
        let limited = tokio::time::timeout(MAX_TIME, self.ask_untimed(what)).await;
        limited.unwrap_or_else(|_| Err(self.at("no answer in time")))
    }

    async fn ask_untimed(&self, what: &str) -> Result<Bytes, String> {
        let url = format!("http://{}/computeMetadata/v1/{what}", self.host);
        let request = Request::get(url).header("metadata-flavor", "Google").body(Empty::new());
        let request = request.map_err(|_| self.at("no place that can be asked"))?;
        let answer = self.client.request(request).await.map_err(|_| self.at("not reached"))?;
        // Whatever else answers in its place does not say so, and what it hands out is nobody's token.
        if answer.headers().get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
            return Err(self.at("what answers there is none: it does not say `Metadata-Flavor: Google`"));
        }
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(self.at("it knows no service account here (404)")),
            status => return Err(self.at(&format!("it answered {}", status.as_u16()))),
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        Ok(body.map_err(|_| self.at("its answer broke off, or is too long"))?.to_bytes())
    }

    fn at(&self, problem: &str) -> String {
        format!("the metadata server {}: {problem}", self.host)
    }
}
