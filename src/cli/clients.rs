//! What a producer's configuration looks like for this gate: a block to copy for each kind of client.
//!
//! What always holds: no password and no token is in it, only the variable that a program reads it from.

use std::path::{Path, PathBuf};

use crate::auth::dev::{DEV_USER, PASSWORD_FILE};
use crate::auth::users::Register;
use crate::config::Config;
use crate::listeners::{DoorName, TlsMode};

/// Where the programs of the blocks find the password.
const PASSWORD_VARIABLE: &str = "SLUICEGATE_KAFKA_PASSWORD";

/// What a client must know.
#[derive(Debug)]
struct Facts {
    address: String,
    /// TLS ends at the gate, or in front of it.
    tls: bool,
    /// The authority to trust where it is the gate's own.
    ca: Option<String>,
    /// Whose password; none: there are only tokens.
    user: Option<String>,
    /// Where the password is kept, for a developer.
    password_file: Option<PathBuf>,
    tokens: bool,
}

/// The blocks, with a line before each that says whose it is.
pub(super) fn ready(config: &Config) -> String {
    let facts = Facts::of(config);
    let mut blocks = vec![facts.head(config), facts.kafkajs(), facts.librdkafka(), facts.java()];
    if facts.tokens && facts.user.is_some() {
        blocks.push(facts.java_token());
    }
    if config.otlp.enabled && config.listeners.doors.contains(&DoorName::Otlp) {
        blocks.push(facts.telemetry(config));
    }
    blocks.join("\n")
}

impl Facts {
    fn of(config: &Config) -> Self {
        let tls = config.listeners.tls;
        let development = config.is_development();
        let dir = &config.listeners.generated_dir;
        Self {
            address: address(config),
            tls: tls != TlsMode::Off,
            ca: (tls == TlsMode::Generated).then(|| dir.join("ca.pem").display().to_string()),
            user: user(config),
            password_file: development.then(|| dir.join(PASSWORD_FILE)),
            tokens: development || !config.auth.issuers.is_empty(),
        }
    }

    fn protocol(&self) -> &'static str {
        if self.tls { "SASL_SSL" } else { "SASL_PLAINTEXT" }
    }

    fn head(&self, config: &Config) -> String {
        let mut text = format!("# Kafka producers reach this gate at {} ({}).\n", self.address, self.protocol());
        if config.listeners.tls == TlsMode::Front {
            text += "# TLS ends in front of it: a proxy must pass the stream on as it is, or the producer comes over WebSocket (/kafka).\n";
        }
        match (&self.user, &self.password_file) {
            (_, Some(file)) => text += &format!("# export {PASSWORD_VARIABLE}=\"$(cat {})\"\n", super::quoted(&file.display().to_string())),
            (Some(_), None) => text += &format!("# {PASSWORD_VARIABLE} is the user's password, in the producer's environment.\n"),
            (None, None) => text += "# token() is yours: it gets a token from your issuer. There are no users with passwords.\n",
        }
        text
    }

    fn kafkajs(&self) -> String {
        let ssl = match &self.ca {
            _ if !self.tls => "false".to_owned(),
            Some(ca) => format!("{{ ca: [require('fs').readFileSync({})] }}", literal(ca)),
            None => "true".to_owned(),
        };
        let sasl = match &self.user {
            Some(user) => {
                format!("{{ mechanism: 'scram-sha-512', username: {}, password: process.env.{PASSWORD_VARIABLE} }}", literal(user))
            }
            None => "{ mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: await token() }) }".to_owned(),
        };
        format!("# kafkajs\nconst kafka = new Kafka({{\n  brokers: [{}],\n  ssl: {ssl},\n  sasl: {sasl},\n}});\n", literal(&self.address))
    }

    fn librdkafka(&self) -> String {
        let mut lines = vec![("bootstrap.servers", literal(&self.address)), ("security.protocol", literal(self.protocol()))];
        lines.extend(self.ca.as_ref().map(|ca| ("ssl.ca.location", literal(ca))));
        match &self.user {
            Some(user) => lines.extend([
                ("sasl.mechanisms", literal("SCRAM-SHA-512")),
                ("sasl.username", literal(user)),
                ("sasl.password", format!("os.environ[{}]", literal(PASSWORD_VARIABLE))),
            ]),
            None => lines.extend([("sasl.mechanisms", literal("OAUTHBEARER")), ("oauth_cb", "lambda _: (token(), expires)".to_owned())]),
        }
        let lines: String = lines.iter().map(|(key, value)| format!("    {}: {value},\n", literal(key))).collect();
        format!("# librdkafka, as confluent-kafka-python has it (kcat: -X name=value)\nproducer = Producer({{\n{lines}}})\n")
    }

    fn java(&self) -> String {
        let Some(user) = &self.user else { return self.java_token() };
        format!(
            "# Java 3.9 and 4.x, producer.properties\n{}sasl.mechanism=SCRAM-SHA-512\nconfig.providers=env\n\
             config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\n\
             sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{user}\" password=\"${{env:{PASSWORD_VARIABLE}}}\";\n",
            self.java_transport()
        )
    }

    /// Kafka's own reader of tokens, from a file here. It verifies nothing, and still wants the libraries for it.
    fn java_token(&self) -> String {
        format!(
            "# Java 3.9 and 4.x with a token (OAUTHBEARER): jackson-databind on the class path, and for 4.x jose4j, and the JVM is told whom it may ask:\n\
             # -Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file:///path/to/token.jwt (or your issuer's https://…/token)\n\
             {}sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=file:///path/to/token.jwt\n\
             sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\n\
             sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n",
            self.java_transport()
        )
    }

    /// What OpenTelemetry's SDKs read from their environment.
    fn telemetry(&self, config: &Config) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let shown = if self.tokens { "Bearer%20TOKEN" } else { "Basic%20BASE64_OF_NAME:PASSWORD" };
        let mut text = format!(
            "# OpenTelemetry SDKs, over http/protobuf or grpc\nOTEL_EXPORTER_OTLP_ENDPOINT={scheme}://{}\n\
             OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nOTEL_EXPORTER_OTLP_HEADERS=authorization={shown}\n",
            bound(config)
        );
        if let Some(ca) = &self.ca {
            text += &format!("OTEL_EXPORTER_OTLP_CERTIFICATE={}\n", super::quoted(ca));
        }
        text
    }

    fn java_transport(&self) -> String {
        let mut text = format!("bootstrap.servers={}\nsecurity.protocol={}\n", self.address, self.protocol());
        if let Some(ca) = &self.ca {
            text += &format!("ssl.truststore.type=PEM\nssl.truststore.location={ca}\n");
        }
        text
    }
}

/// Where the gate listens; a word in capitals where only its operator knows.
fn bound(config: &Config) -> String {
    let bind = config.listeners.bind;
    if bind.ip().is_unspecified() { format!("HOST:{}", bind.port()) } else { bind.to_string() }
}

/// What is advertised, else where the gate listens; a word in capitals where only its operator knows.
fn address(config: &Config) -> String {
    let bind = config.listeners.bind;
    let host = match config.kafka.advertised_host.as_str() {
        "" if bind.ip().is_unspecified() => "HOST".to_owned(),
        "" if bind.is_ipv6() => format!("[{}]", bind.ip()),
        "" => bind.ip().to_string(),
        advertised => advertised.to_owned(),
    };
    match [config.kafka.advertised_port, bind.port()].into_iter().find(|port| *port != 0) {
        Some(port) => format!("{host}:{port}"),
        None => format!("{host}:PORT"),
    }
}

/// The name of a user, if there are users: the configured one, the only one, or a word in capitals for one of several.
fn user(config: &Config) -> Option<String> {
    if config.is_development() {
        return Some(DEV_USER.to_owned());
    }
    config.auth.given().map(|given| given.name).or_else(|| config.auth.users_file.as_deref().map(only))
}

fn only(file: &Path) -> String {
    let names: Vec<String> = Register::read(file).map(|(register, _)| register.users.into_keys().collect()).unwrap_or_default();
    match names.as_slice() {
        [name] => name.clone(),
        _ => "NAME".to_owned(),
    }
}

/// A text as JavaScript and Python write it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Env;

    fn blocks<const N: usize>(variables: [(&str, &str); N]) -> String {
        let env: Env = variables.into_iter().collect();
        ready(&Config::load(None, &env).expect("a good configuration").config)
    }

    #[test]
    fn a_developers_gate_needs_nothing_but_what_is_printed() {
        let text = blocks([]);
        for line in [
            "# export SLUICEGATE_KAFKA_PASSWORD=\"$(cat certs/dev/kafka.password)\"",
            "  brokers: ['127.0.0.1:8443'],",
            "  ssl: { ca: [require('fs').readFileSync('certs/dev/ca.pem')] },",
            "  sasl: { mechanism: 'scram-sha-512', username: 'developer', password: process.env.SLUICEGATE_KAFKA_PASSWORD },",
            "    'security.protocol': 'SASL_SSL',",
            "    'ssl.ca.location': 'certs/dev/ca.pem',",
            "    'sasl.password': os.environ['SLUICEGATE_KAFKA_PASSWORD'],",
            "bootstrap.servers=127.0.0.1:8443",
            "ssl.truststore.location=certs/dev/ca.pem",
            "sasl.mechanism=SCRAM-SHA-512",
            "sasl.mechanism=OAUTHBEARER",
            "OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:8443",
            "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20TOKEN",
            "OTEL_EXPORTER_OTLP_CERTIFICATE=certs/dev/ca.pem",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for name in
            ["# kafkajs", "# librdkafka", "# Java 3.9 and 4.x, producer", "# Java 3.9 and 4.x with a token", "jose4j", "allowed.urls"]
        {
            assert_eq!(text.matches(name).count(), 1, "{name}\n{text}");
        }
    }

    #[test]
    fn what_is_advertised_is_where_producers_go_and_no_password_is_told() {
        let text = blocks([
            ("PORT", "8080"),
            ("SLUICEGATE_KAFKA_USER", "ada"),
            ("SLUICEGATE_KAFKA_PASSWORD", "canary-password"),
            ("PUBLIC_REDPANDA_HOST", "kafka.example.org"),
            ("PUBLIC_REDPANDA_PORT", "9094"),
        ]);
        assert!(text.contains("brokers: ['kafka.example.org:9094'],\n  ssl: true,") && text.contains("username: 'ada'"), "{text}");
        assert!(text.contains("TLS ends in front") && !text.contains("truststore") && !text.contains("ca.location"), "{text}");
        assert!(!text.contains("canary") && !text.contains("OAUTHBEARER"), "{text}");
        assert!(blocks([("PORT", "8080"), ("FIREBASE_PROJECT_ID", "demo")]).contains("'HOST:8080'"));
    }

    #[test]
    fn with_issuers_alone_all_use_tokens() {
        let text = blocks([("FIREBASE_PROJECT_ID", "demo"), ("SLUICEGATE__LISTENERS__TLS", "off")]);
        assert!(!text.contains("SCRAM") && !text.contains("PASSWORD"), "{text}");
        for word in ["mechanism: 'oauthbearer'", "'sasl.mechanisms': 'OAUTHBEARER'", "sasl.mechanism=OAUTHBEARER", "SASL_PLAINTEXT"] {
            assert!(text.contains(word), "{word}\n{text}");
        }
    }

    #[test]
    fn the_only_user_of_a_file_is_named_and_of_several_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("users.toml");
        let said = || blocks([("SLUICEGATE__AUTH__USERS_FILE", file.display().to_string().as_str())]);
        assert!(said().contains("'NAME'"), "there is no file yet");
        let mut register = Register::empty();
        for (name, expected) in [("ada", "'ada'"), ("bob", "'NAME'")] {
            let rounds = crate::auth::users::check_iterations(4_096).expect("sound");
            let user = crate::auth::users::User::new(&crate::units::Secret::new("correct horse"), rounds, Vec::new(), "standard".into());
            register.users.insert(name.to_owned(), user);
            register.write(&file).expect("written");
            assert!(said().contains(expected), "{}", said());
        }
    }
}
