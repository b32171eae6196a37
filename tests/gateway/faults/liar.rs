//! The lying door: it stands before a gate's HTTPS door and does to events what a gate with a bug would do. It is the
//! known liar that the checker must find out.
//!
//! What always holds: it lies about single events of the senders' topics alone, at a place that follows from the seed, and
//! then once in 10,000 events; everything else goes through byte for byte. Told to lie about nothing, it is honest.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::client::{Answer, Client};
use crate::support::gate::Gate;

use super::load::Dice;

/// One event in so many is lied about.
const ONE_IN: u64 = 10_000;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// Accepts an event and throws it away.
    Drop,
    /// Accepts events before they are committed, one always behind; what is not committed dies with it.
    AckBeforeCommit,
    /// Delivers an event twice.
    Duplicate,
    /// Delivers an event to another topic.
    SwapTopics,
    /// Delivers an event with one bit changed.
    FlipBit,
}

/// The door, until it is dropped.
pub struct Liar {
    address: SocketAddr,
    task: JoinHandle<()>,
    door: Arc<Door>,
}

struct Door {
    lie: Lie,
    gate: String,
    client: Client,
    state: Mutex<State>,
}

struct State {
    seen: u64,
    /// The number of events after which it lies next.
    next: u64,
    lies: usize,
    /// What the gate puts before the ids of this sender.
    prefix: Option<String>,
    /// Accepted and not committed.
    pending: Option<Order>,
}

/// A request, as far as it matters.
#[derive(Clone)]
struct Order {
    token: String,
    body: Bytes,
}

/// What is to be done with a request.
enum Plan {
    Pass,
    Say(Value),
    /// Say so, and commit the one before.
    SayAndCommit(Value, Option<Order>),
    Twice,
    Instead(Bytes),
}

impl Liar {
    /// Stands before this gate.
    pub async fn before(gate: &Gate, lie: Lie, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let next = Dice::new(seed).below(ONE_IN / 2);
        let state = State { seen: 0, next, lies: 0, prefix: None, pending: None };
        let door = Door { lie, gate: gate.url("/v1/events"), client: gate.client.clone(), state: Mutex::new(state) };
        let door = Arc::new(door);
        let task = tokio::spawn(listen(listener, Arc::clone(&door)));
        Self { address, task, door }
    }

    /// Where senders post their batches.
    pub fn url(&self) -> String {
        format!("http://{}/v1/events", self.address)
    }

    /// How many events it has lied about.
    pub fn lies(&self) -> usize {
        self.door.state.lock().expect("nothing panics under this lock").lies
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, door: Arc<Door>) {
    while let Ok((stream, _)) = listener.accept().await {
        let door = Arc::clone(&door);
        let service = service_fn(move |request| {
            let door = Arc::clone(&door);
            async move { Ok::<_, Infallible>(door.serve(request).await) }
        });
        // A connection ends when its sender hangs up, which is the last thing that a sender does.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Door {
    async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let token = request.headers().get("authorization").and_then(|token| token.to_str().ok()).unwrap_or_default().to_owned();
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let order = Order { token, body };
        let plan = self.plan(&order);
        match plan {
            Plan::Pass => self.forward(&order).await,
            Plan::Say(answer) => accepted(answer),
            Plan::SayAndCommit(answer, before) => {
                if let Some(before) = before {
                    self.forward(&before).await;
                }
                accepted(answer)
            }
            Plan::Twice => {
                self.forward(&order).await;
                self.forward(&order).await
            }
            Plan::Instead(body) => self.forward(&Order { body, ..order }).await,
        }
    }

    /// Decides, and keeps count.
    fn plan(&self, order: &Order) -> Plan {
        let events: Vec<Value> = serde_json::from_slice(&order.body).unwrap_or_default();
        let mut state = self.state.lock().expect("nothing panics under this lock");
        state.seen += events.len() as u64;
        let [event] = events.as_slice() else { return Plan::Pass };
        if self.lie == Lie::None || event["headers"]["mine"] != "yes" || !super::TOPICS.iter().any(|topic| event["topic"] == *topic) {
            return Plan::Pass;
        }
        if self.lie == Lie::AckBeforeCommit {
            return state.ack_before_commit(event, order);
        }
        if state.seen <= state.next {
            return Plan::Pass;
        }
        state.next += ONE_IN;
        state.lies += 1;
        let topic = event["topic"].as_str().unwrap_or_default();
        match self.lie {
            Lie::None | Lie::AckBeforeCommit => Plan::Pass,
            Lie::Drop => Plan::Say(receipt(&format!("made-up-{}", state.lies), event)),
            Lie::Duplicate => Plan::Twice,
            Lie::SwapTopics => {
                let other = if topic == "alpha" { "beta" } else { "alpha" };
                instead(&order.body, &format!(r#""topic":"{topic}""#), &format!(r#""topic":"{other}""#))
            }
            Lie::FlipBit => instead(&order.body, r#""odd":1.50"#, r#""odd":1.51"#),
        }
    }

    async fn forward(&self, order: &Order) -> Response<Full<Bytes>> {
        let headers = [("authorization", order.token.as_str()), ("content-type", "application/json")];
        match self.client.send(Method::POST, &self.gate, &headers, order.body.clone()).await {
            Ok(answer) => {
                self.learn(&answer);
                written(answer.status, answer.body)
            }
            Err(error) => written(502, error.into()),
        }
    }

    /// Learns what the gate puts before the ids of its senders.
    fn learn(&self, answer: &Answer) {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let ids = body["results"].as_array().into_iter().flatten().filter_map(|result| result["id"].as_str());
        if let Some((prefix, _)) = ids.filter_map(|id| id.split_once('.')).next() {
            self.state.lock().expect("nothing panics under this lock").prefix.get_or_insert_with(|| prefix.to_owned());
        }
    }
}

impl State {
    /// Only events with an id of the sender's: what the gate will call them is known before it has seen them.
    fn ack_before_commit(&mut self, event: &Value, order: &Order) -> Plan {
        let (Some(prefix), Some(own)) = (&self.prefix, event["id"].as_str()) else { return Plan::Pass };
        let answer = receipt(&format!("{prefix}.{own}"), event);
        self.lies += 1;
        Plan::SayAndCommit(answer, self.pending.replace(order.clone()))
    }
}

fn instead(body: &Bytes, what: &str, by: &str) -> Plan {
    let text = std::str::from_utf8(body).expect("it was JSON");
    assert!(text.contains(what), "{what} in {text}");
    Plan::Instead(text.replacen(what, by, 1).into())
}

/// What a gate says of an event that the broker has.
fn receipt(id: &str, event: &Value) -> Value {
    json!({"id": id, "status": "accepted", "tier": "broker", "topic": event["topic"], "partition": 0, "offset": 0})
}

fn accepted(result: Value) -> Response<Full<Bytes>> {
    written(200, json!({"accepted": 1, "rejected": 0, "results": [result]}).to_string().into())
}

fn written(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Full::new(body)).expect("a status that came from a gate")
}
