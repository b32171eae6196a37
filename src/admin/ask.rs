//! The other end: how a command of `sluicegate` asks the gate that runs beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{COMMAND_HEADER, Command, Status};

const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A purge of a full inbox takes its time.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// Has the gate whose admin listener is bound there carry out a command; how many rows it touched.
pub async fn send(bound: SocketAddr, command: &Command) -> Result<u64, String> {
    let body = serde_json::to_vec(command.selection()).expect("texts and numbers only");
    let answer = ask(bound, Method::POST, command.path(), body).await?;
    answer["rows"].as_u64().ok_or_else(|| format!("what listens on {bound} is not a gate: it answered without a number of rows"))
}

/// The status of the gate whose admin listener is bound there.
pub async fn ask_status(bound: SocketAddr) -> Result<Status, String> {
    let answer = ask(bound, Method::GET, "/status", Vec::new()).await?;
    serde_json::from_value(answer).map_err(|fault| format!("what listens on {bound} is not a gate of this version: {fault}"))
}

async fn ask(bound: SocketAddr, method: Method, path: &str, body: Vec<u8>) -> Result<Value, String> {
    let (status, body) = tokio::time::timeout(ANSWER_LIMIT, exchange(local(bound), method, path, body))
        .await
        .map_err(|_| format!("the gate on {bound} did not answer within {} s; look at its log", ANSWER_LIMIT.as_secs()))?
        .map_err(|fault| format!("the gate on {bound} cannot be asked ({fault}); is it running, and is admin.bind the same?"))?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status == StatusCode::OK {
        return Ok(answer);
    }
    Err(answer["error"].as_str().map_or_else(|| format!("the gate on {bound} answered {status}"), str::to_owned))
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(to: SocketAddr, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), Fault> {
    let socket = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(to)).await??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    // It ends with the sender, at the end of this function; its fault is the sender's fault.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, to.to_string())
        .header(COMMAND_HEADER, "1")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    Ok((status, Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes()))
}

/// Commands are taken by a loopback address only; a listener on all addresses has it too.
fn local(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        own => own,
    };
    SocketAddr::new(ip, bound.port())
}
