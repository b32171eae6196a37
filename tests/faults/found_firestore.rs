//! What lies in a Firestore inbox, the checker's own way: by the REST API, page by page.
//!
//! What always holds: it only reads; a document that is no event of the general shape is an error, never passed over.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::log::sha256;
use super::rules::{Found, Place};

/// The collection, unless the place names another.
const ROWS: &str = "sluicegate_inbox";

/// How long one page may take.
const PAGE: Duration = Duration::from_secs(60);

/// The events in a collection, those set aside too. `place`: `host:port/project/database`, or that and `/collection`.
pub fn in_firestore(place: &str) -> Result<Vec<Found>, String> {
    let parts: Vec<_> = place.split('/').collect();
    let (host, project, database, collection) = match parts[..] {
        [host, project, database] => (host, project, database, ROWS),
        [host, project, database, collection] => (host, project, database, collection),
        _ => return Err(format!("{place}: host:port/project/database, or that and /collection")),
    };
    let url = format!("http://{host}/v1/projects/{project}/databases/{database}/documents/{collection}?pageSize=300");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let documents = runtime.block_on(documents(&url))?;
    documents.iter().map(of_document).collect()
}

async fn documents(url: &str) -> Result<Vec<Value>, String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let (mut all, mut page) = (Vec::new(), url.to_owned());
    loop {
        let request = Request::get(&page).header("authorization", "Bearer owner").body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = async {
            let answer = client.request(request).await.map_err(|error| format!("{page}: {error:?}"))?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|error| format!("{page}: {error:?}"))?.to_bytes();
            if status.is_success() { Ok(body) } else { Err(format!("{page}: {status} {}", String::from_utf8_lossy(&body))) }
        };
        let body = tokio::time::timeout(PAGE, answer).await.map_err(|_| format!("{page}: no answer"))??;
        let mut body: Value = serde_json::from_slice(&body).map_err(|error| format!("{page}: {error}"))?;
        if let Value::Array(found) = body["documents"].take() {
            all.extend(found);
        }
        match body["nextPageToken"].as_str() {
            Some(token) => page = format!("{url}&pageToken={token}"),
            None => return Ok(all),
        }
    }
}

fn of_document(document: &Value) -> Result<Found, String> {
    let fields = &document["fields"];
    let wrong = |what: &str| format!("{}: {what}", document["name"]);
    let text = |name: &str| fields[name]["stringValue"].as_str().ok_or_else(|| wrong(&format!("{name} is no string")));
    let bytes = |name: &str| {
        let text = fields[name]["bytesValue"].as_str().ok_or_else(|| wrong(&format!("{name} are no bytes")))?;
        STANDARD.decode(text).map_err(|error| wrong(&format!("{name}: {error}")))
    };
    if text("kind")? != "event" {
        return Err(wrong("a batch of a producer's, whose events this checker cannot tell apart"));
    }
    let key = if fields["key"].get("nullValue").is_some() { None } else { Some(String::from_utf8_lossy(&bytes("key")?).into_owned()) };
    // What is set aside stands before all others, by a sign that no topic begins with.
    let place = if text("order")?.starts_with('!') { Place::Poison } else { Place::Inbox };
    Ok(Found { topic: text("topic")?.to_owned(), place, id: text("id")?.to_owned(), key, sha256: sha256(&bytes("value")?) })
}
