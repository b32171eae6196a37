//! The table of the door's routes: from it come matching, `Allow`, `OPTIONS`, and the list of what needs credentials.

use http::Method;

use super::settings::Config;
use super::upgrade;

/// What answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Native events.
    Events,
    /// The Firebase callable function, which answers also wrong methods in its own words.
    Callable,
    /// The process lives.
    Live,
    /// The gate takes events.
    Ready,
    /// The description of these routes.
    OpenApi,
    /// Kafka over WebSocket.
    Tunnel,
    /// A share of the inbox's replay.
    Replay,
}

/// Where a route stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Exactly here.
    Exact(String),
    /// One segment below this prefix, which ends in `/`: the topic.
    TopicBelow(&'static str),
}

/// The methods of a route, `OPTIONS` beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// GET and HEAD.
    Read,
    /// POST.
    Write,
}

impl Methods {
    /// What `Allow` says.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD, OPTIONS",
            Self::Write => "POST, OPTIONS",
        }
    }

    /// Whether the method is one of them.
    pub fn contain(self, method: &Method) -> bool {
        match self {
            Self::Read => matches!(*method, Method::GET | Method::HEAD),
            Self::Write => *method == Method::POST,
        }
    }
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where.
    pub path: Path,
    /// How.
    pub methods: Methods,
    /// Who answers.
    pub handler: Handler,
    /// Whether a request without credentials is answered 401.
    pub authenticated: bool,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Table(Vec<Route>);

impl Table {
    /// The routes of a door that is configured so.
    pub fn new(config: &Config) -> Self {
        let exact = |path: &str| Path::Exact(path.to_owned());
        let route = |path, methods, handler, authenticated| Route { path, methods, handler, authenticated };
        // Who is there is told in it, or before it.
        let tunnel = config.websocket.then(|| route(exact(upgrade::PATH), Methods::Read, Handler::Tunnel, false));
        let mut rows = vec![
            route(exact("/v1/events"), Methods::Write, Handler::Events, true),
            route(Path::TopicBelow("/v1/events/"), Methods::Write, Handler::Events, true),
            route(exact(&format!("/{}", config.callable.name)), Methods::Write, Handler::Callable, true),
            route(exact("/livez"), Methods::Read, Handler::Live, false),
            route(exact("/live"), Methods::Read, Handler::Live, false),
            route(exact("/readyz"), Methods::Read, Handler::Ready, false),
            route(exact("/ready"), Methods::Read, Handler::Ready, false),
            route(exact("/v1/admin/replay"), Methods::Write, Handler::Replay, true),
            route(exact("/openapi.json"), Methods::Read, Handler::OpenApi, true),
        ];
        rows.extend(tunnel);
        Self(rows)
    }

    /// The rows.
    pub fn rows(&self) -> &[Route] {
        &self.0
    }

    /// The route of a path, and the topic that the path names (still percent-encoded).
    pub fn find<'a>(&self, path: &'a str) -> Option<(&Route, Option<&'a str>)> {
        self.0.iter().find_map(|route| match &route.path {
            Path::Exact(own) => (own == path).then_some((route, None)),
            Path::TopicBelow(prefix) => {
                let topic = path.strip_prefix(prefix).filter(|topic| !topic.is_empty() && !topic.contains('/'))?;
                Some((route, Some(topic)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_exactly_and_a_topic_is_one_segment() {
        let table = Table::new(&Config::default());
        let found = |path| table.find(path).map(|(route, topic)| (route.handler, topic));
        assert_eq!(found("/v1/events"), Some((Handler::Events, None)));
        assert_eq!(found("/v1/events/orders"), Some((Handler::Events, Some("orders"))));
        assert_eq!(found("/v1/events/%2e%2e%2fx"), Some((Handler::Events, Some("%2e%2e%2fx"))));
        assert_eq!(found("/ingestEvent"), Some((Handler::Callable, None)));
        assert_eq!(found("/readyz"), Some((Handler::Ready, None)));
        assert_eq!(found("/kafka"), Some((Handler::Tunnel, None)));
        assert!(Table::new(&Config { websocket: false, ..Config::default() }).find("/kafka").is_none());
        for path in ["/", "", "*", "/v1/events/", "/v1/events/a/b", "/v1/eventsx", "/V1/events", "/ingestEvent/", "//livez"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn everything_but_the_probes_needs_credentials_and_kafka_asks_for_its_own() {
        for route in Table::new(&Config::default()).rows() {
            let probe = matches!(route.handler, Handler::Live | Handler::Ready | Handler::Tunnel);
            assert_eq!(route.authenticated, !probe, "{route:?}");
        }
    }
}
