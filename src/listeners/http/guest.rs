//! Another door that speaks HTTP: the server of a connection asks it first whether a request is its own.
//!
//! The HTTP door knows nothing of it, and it knows nothing of that door: `listeners` puts them behind one server. A head that
//! is refused before any door sees it is written by whose request it would have been, in that one's manner.

use std::pin::Pin;
use std::sync::Arc;

use http::Request;
use http::request::Parts;

use super::fault::Fault;
use super::reply::Answer;
use super::rest::Lent;
use crate::listeners::Peer;

/// A request that comes to a guest.
#[derive(Debug)]
pub struct Visit {
    /// The request.
    pub request: Request<Lent>,
    /// Who is at the other end.
    pub peer: Peer,
    /// Why its head is refused, if it is: the answer says so, and nothing of the body is read.
    pub refused: Option<Fault>,
}

type Serve = dyn Fn(Visit) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// The door behind the server that is asked first.
#[derive(Clone)]
pub struct Guest {
    owns: Arc<dyn Fn(&Parts) -> bool + Send + Sync>,
    serve: Arc<Serve>,
}

impl Guest {
    /// A door that says by a request's head whether it is its own, and answers each of these.
    pub fn new<F>(owns: impl Fn(&Parts) -> bool + Send + Sync + 'static, serve: impl Fn(Visit) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self { owns: Arc::new(owns), serve: Arc::new(move |visit| Box::pin(serve(visit))) }
    }

    /// Whether a request is its own.
    pub fn owns(&self, parts: &Parts) -> bool {
        (self.owns)(parts)
    }

    /// Its answer.
    pub async fn serve(&self, visit: Visit) -> Answer {
        (self.serve)(visit).await
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guest")
    }
}
