//! The closed sets that a label can be: every value is written here, so that no path, name or text of a sender can ever
//! become a new series.

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

/// A label, or a pair of them, whose values are all known.
pub trait Closed: EncodeLabelSet + Copy + std::fmt::Debug + Send + Sync + 'static {
    /// All values, in the order of [`Closed::index`].
    fn all() -> Vec<Self>;
    /// The value's place in [`Closed::all`].
    fn index(self) -> usize;
    /// Each label's key and its values, for the documentation.
    fn described() -> Vec<(&'static str, Vec<&'static str>)>;
}

impl<A: Closed, B: Closed> Closed for (A, B) {
    fn all() -> Vec<Self> {
        A::all().into_iter().flat_map(|a| B::all().into_iter().map(move |b| (a, b))).collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::all().len() + self.1.index()
    }

    fn described() -> Vec<(&'static str, Vec<&'static str>)> {
        [A::described(), B::described()].concat()
    }
}

macro_rules! label {
    ($(#[doc = $doc:literal])+ $name:ident = $key:literal { $($(#[doc = $about:literal])+ $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $about])+ $variant),+
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as it stands in the exposition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }
        }

        impl EncodeLabelSet for $name {
            fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
                ($key, self.as_str()).encode(encoder.encode_label())
            }
        }

        impl Closed for $name {
            fn all() -> Vec<Self> {
                Self::ALL.to_vec()
            }

            fn index(self) -> usize {
                self as usize
            }

            fn described() -> Vec<(&'static str, Vec<&'static str>)> {
                vec![($key, Self::ALL.iter().map(|value| value.as_str()).collect())]
            }
        }
    };
}

label! {
    /// Where a request came in.
    Door = "door" {
        /// The native events.
        Events = "events",
        /// The Firebase callable function.
        Callable = "callable",
        /// The Kafka protocol.
        Kafka = "kafka",
        /// OTLP over HTTP.
        Otlp = "otlp",
        /// OTLP over gRPC.
        OtlpGrpc = "otlp_grpc",
        /// `/livez` and `/readyz` on a door.
        Probe = "probe",
        /// The admin listener.
        Admin = "admin",
        /// No route of ours, or a request that was refused before its route was known.
        Other = "other",
    }
}

impl Door {
    /// The door of this name; whatever is none of ours is [`Door::Other`].
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().copied().find(|door| door.as_str() == name).unwrap_or(Self::Other)
    }
}

label! {
    /// The class of an HTTP status.
    Class = "class" {
        /// 100–199.
        Informational = "1xx",
        /// 200–299.
        Success = "2xx",
        /// 300–399.
        Redirection = "3xx",
        /// 400–499: the sender's fault, or its quota.
        Client = "4xx",
        /// 500 and above: ours.
        Server = "5xx",
    }
}

impl Class {
    /// The class of a status.
    pub const fn of(status: u16) -> Self {
        match status {
            0..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::Client,
            500.. => Self::Server,
        }
    }
}

label! {
    /// The one recorded fate of an event.
    Outcome = "outcome" {
        /// Acknowledged: in the broker.
        AcceptedBroker = "accepted_broker",
        /// Acknowledged: durably in the inbox.
        AcceptedInbox = "accepted_inbox",
        /// Refused: no valid credentials.
        Unauthenticated = "unauthenticated",
        /// Refused: no grant, or no such topic.
        Denied = "denied",
        /// Refused: not what the door speaks.
        Malformed = "malformed",
        /// Refused: well formed, but not an event for its topic.
        Invalid = "invalid",
        /// Refused: larger than a bound.
        TooLarge = "too_large",
        /// Refused: over the principal's quota.
        Throttled = "throttled",
        /// Refused: a bound of the gate was reached.
        Overloaded = "overloaded",
        /// Refused: neither tier took it.
        Unavailable = "unavailable",
        /// A fault of ours.
        Internal = "internal",
    }
}

impl Outcome {
    /// The outcome of a refusal, by its code; a code that is none of ours counts as a fault of ours.
    pub fn refused(code: &str) -> Self {
        Self::ALL.iter().copied().find(|outcome| outcome.as_str() == code).unwrap_or(Self::Internal)
    }
}

label! {
    /// What an OTLP request carries.
    Signal = "signal" {
        /// Spans.
        Traces = "traces",
        /// Data points.
        Metrics = "metrics",
        /// Log records.
        Logs = "logs",
    }
}

impl Signal {
    /// The signal of this name; whatever is none counts as logs.
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().copied().find(|signal| signal.as_str() == name).unwrap_or(Self::Logs)
    }
}

label! {
    /// What an OTLP request in JSON had otherwise than its specification, and could be read all the same.
    Deviation = "kind" {
        /// Names of fields in `snake_case`.
        SnakeCase = "snake_case",
        /// Names of fields from before version 0.15 of the protocol.
        OldName = "old_name",
        /// Enums by their names.
        EnumName = "enum_name",
        /// Integers beyond 64 bits, which became doubles.
        LargeInteger = "large_integer",
        /// Halves of surrogate pairs, which became U+FFFD.
        LoneSurrogate = "lone_surrogate",
        /// Bytes as lists of numbers.
        ByteList = "byte_list",
        /// Fields that nobody knows, which were left out.
        UnknownField = "unknown_field",
    }
}

impl Deviation {
    /// The deviation of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|deviation| deviation.as_str() == name)
    }
}

label! {
    /// Why credentials were refused. The sender is told none of this.
    AuthFailure = "reason" {
        /// None were shown.
        Missing = "missing",
        /// Longer than credentials can be.
        TooLong = "too_long",
        /// Not in the form of credentials.
        Malformed = "malformed",
        /// A header that we do not follow, or a password in plain text.
        Header = "header",
        /// From an issuer that is not configured.
        Issuer = "issuer",
        /// Another algorithm than the key has.
        Algorithm = "algorithm",
        /// Signed with a key that its issuer does not publish.
        UnknownKey = "unknown_key",
        /// The issuer's keys could not be had.
        NoKeys = "no_keys",
        /// The signature does not verify, or it is not the password of such a user.
        Signature = "signature",
        /// A claim is missing or in a form that we do not take.
        Claims = "claims",
        /// For somebody else.
        Audience = "audience",
        /// Expired.
        Expired = "expired",
        /// Not valid yet.
        NotYet = "not_yet",
        /// Too many passwords were tried at once.
        Busy = "busy",
        /// Any other reason.
        Other = "other",
    }
}

impl AuthFailure {
    /// The reason of this name.
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name).unwrap_or(Self::Other)
    }
}

label! {
    /// How a piece of background work ended.
    Ended = "outcome" {
        /// Done.
        Done = "done",
        /// Failed.
        Failed = "failed",
    }
}

label! {
    /// Why a connection was closed before it was served.
    ConnectionRefusal = "reason" {
        /// All connection slots are taken.
        Limit = "limit",
        /// Too many from one address.
        Address = "address",
        /// No file descriptors left.
        Descriptors = "descriptors",
        /// The gate drains.
        Draining = "draining",
        /// Not the protocol of the listener.
        Protocol = "protocol",
    }
}

label! {
    /// How a TLS handshake ended.
    Handshake = "outcome" {
        /// Done.
        Done = "done",
        /// The peers did not agree.
        Failed = "failed",
        /// Not in time.
        Timeout = "timeout",
        /// Too many at once.
        Limit = "limit",
    }
}

label! {
    /// A bound that said no.
    Bound = "bound" {
        /// Bytes in flight.
        InFlight = "in_flight",
        /// The size of a request body, before or after decompression.
        Body = "body",
        /// Events in one request.
        BatchEvents = "batch_events",
        /// The size of one event.
        EventBytes = "event_bytes",
        /// The size of a request head.
        Head = "head",
        /// The time a request may take to arrive.
        Slowness = "slowness",
        /// HTTP/2 control frames that bring nothing.
        ControlFrames = "control_frames",
        /// The producer's queue.
        ProducerQueue = "producer_queue",
        /// Passwords that are checked at once.
        Passwords = "passwords",
        /// Connections of the admin listener.
        AdminConnections = "admin_connections",
    }
}

label! {
    /// What a quota counts.
    QuotaUnit = "unit" {
        /// Events.
        Events = "events",
        /// KiB of their bytes.
        Kib = "kib",
    }
}

label! {
    /// What a failed send means for its event.
    SinkFailure = "class" {
        /// Certainly not stored; may be retried.
        NotStored = "not_stored",
        /// May be stored or not: a timeout, a lost connection.
        Unknown = "unknown",
        /// Refused for good: too large, not authorized, invalid.
        Permanent = "permanent",
    }
}

label! {
    /// Why a send failed, in the broker's or the producer's words.
    SinkReason = "reason" {
        /// The partition has no leader, or another one.
        Leader = "leader",
        /// Too few in-sync replicas.
        NotEnoughReplicas = "not_enough_replicas",
        /// Too few in-sync replicas, and appended all the same.
        NotEnoughReplicasAfterAppend = "not_enough_replicas_after_append",
        /// The producer's queue is full.
        QueueFull = "queue_full",
        /// The producer did not take it.
        NotEnqueued = "not_enqueued",
        /// No answer in time.
        TimedOut = "timed_out",
        /// The connection was lost.
        Transport = "transport",
        /// Given up by the producer.
        Purged = "purged",
        /// The topic does not exist, or is not ours to write.
        NoTopic = "no_topic",
        /// Larger than the topic takes.
        TooLarge = "too_large",
        /// A time that the topic does not take.
        InvalidTimestamp = "invalid_timestamp",
        /// A record that the topic does not take.
        InvalidRecord = "invalid_record",
        /// Against a policy of the broker.
        PolicyViolation = "policy_violation",
        /// Any other reason.
        Other = "other",
    }
}

impl SinkReason {
    /// The reason of this name.
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name).unwrap_or(Self::Other)
    }
}

label! {
    /// Why the inbox did not take an event.
    InboxRefusal = "reason" {
        /// Its budget is used up.
        Budget = "budget",
        /// The disk is full.
        DiskFull = "disk_full",
        /// Latched by an I/O error until a restart.
        Latched = "latched",
        /// Its queue is full, or somebody else holds the database.
        Busy = "busy",
        /// The commit failed, outcome unknown.
        Io = "io",
        /// The event can never be held by it.
        Unfit = "unfit",
        /// Firestore does not know the gate, or does not let it write.
        Credentials = "credentials",
        /// Firestore will never take the document.
        Document = "document",
    }
}

label! {
    /// What Firestore was asked for.
    FirestoreMethod = "method" {
        /// Writes, each for itself.
        BatchWrite = "batch_write",
        /// Documents by name.
        BatchGet = "batch_get",
        /// A query.
        RunQuery = "run_query",
        /// A count.
        Count = "count",
    }
}

label! {
    /// How a call of Firestore ended.
    FirestoreEnd = "outcome" {
        /// It was answered.
        Ok = "ok",
        /// Too much or too contended.
        Exhausted = "exhausted",
        /// No token, or not allowed.
        Denied = "denied",
        /// Refused as a whole.
        Invalid = "invalid",
        /// No answer in time.
        Slow = "slow",
        /// No connection, or it broke.
        Unreachable = "unreachable",
        /// Anything else.
        Failed = "failed",
    }
}

label! {
    /// What a request of the Kafka protocol asks for.
    KafkaApi = "api" {
        /// A producer's batches.
        Produce = "produce",
        /// A consumer's question, refused.
        Fetch = "fetch",
        /// A consumer's question, refused.
        ListOffsets = "list_offsets",
        /// Where topics are.
        Metadata = "metadata",
        /// Where groups and transactions are.
        FindCoordinator = "find_coordinator",
        /// Which mechanism is used to authenticate.
        SaslHandshake = "sasl_handshake",
        /// What is spoken.
        ApiVersions = "api_versions",
        /// A producer id.
        InitProducerId = "init_producer_id",
        /// A message of the mechanism.
        SaslAuthenticate = "sasl_authenticate",
        /// Which brokers there are.
        DescribeCluster = "describe_cluster",
    }
}

label! {
    /// How somebody wants to be recognized on a connection.
    Mechanism = "mechanism" {
        /// RFC 7677.
        ScramSha256 = "scram_sha_256",
        /// The same with SHA-512.
        ScramSha512 = "scram_sha_512",
        /// RFC 4616.
        Plain = "plain",
        /// RFC 7628.
        OAuthBearer = "oauthbearer",
    }
}

label! {
    /// How an authentication by SASL ended.
    SaslEnd = "outcome" {
        /// It is known who is there.
        Accepted = "accepted",
        /// Not credentials of anybody here.
        Refused = "refused",
        /// A renewal as somebody else, or by another mechanism.
        Changed = "changed",
        /// Too many at once.
        Busy = "busy",
        /// Too many messages, or one out of place.
        Disorder = "disorder",
        /// Not in time.
        Late = "late",
    }
}

label! {
    /// Why a connection of the Kafka door ended.
    KafkaEnd = "reason" {
        /// The client closed it, or was lost.
        Client = "client",
        /// The client was silent for too long.
        Idle = "idle",
        /// The gate drains.
        Drain = "drain",
        /// A length that no request has: not Kafka, or too large.
        Frame = "frame",
        /// A request that cannot be read.
        Malformed = "malformed",
        /// An API or a version that is not spoken here.
        Unknown = "unknown",
        /// It was not said in time who is there.
        LoginLate = "login_late",
        /// Authentication failed.
        LoginRefused = "login_refused",
        /// Something else than authentication before authentication, or in the midst of it.
        LoginDisorder = "login_disorder",
        /// Too many authentications at once.
        LoginBusy = "login_busy",
        /// The authentication had ended and was not renewed, or the user was removed or changed.
        Expired = "expired",
        /// A request did not arrive in time.
        SlowRequest = "slow_request",
        /// The client did not take its answers.
        SlowReader = "slow_reader",
    }
}

label! {
    /// Why reading of a Kafka connection paused.
    KafkaPause = "reason" {
        /// Too many of its requests, or too many bytes of them, are not answered yet; or the gate is full.
        Room = "room",
        /// Its principal owes its quotas.
        Quota = "quota",
    }
}

label! {
    /// A phase of the drain.
    DrainPhase = "phase" {
        /// Not ready, and every answer says so.
        Leaving = "leaving",
        /// Nothing new is accepted; what is in flight is finished.
        Finishing = "finishing",
        /// The rest goes to the inbox.
        Storing = "storing",
    }
}

label! {
    /// The severity of a log line.
    LogLevel = "level" {
        /// For developers.
        Debug = "debug",
        /// Changes of state.
        Info = "info",
        /// Somebody should look at it soon.
        Warning = "warning",
        /// A fault of ours or of the sink.
        Error = "error",
    }
}
