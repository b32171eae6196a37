//! What a developer's own gate says once it is up. It prints nothing itself.

use std::net::SocketAddr;
use std::path::Path;

use super::quoted;
use super::wiring::Welcome;
use crate::auth::dev::DEV_USER;

/// What a developer needs for a first event: the token and the password, and lines that work when pasted into another shell of
/// this directory.
pub(super) fn text(Welcome { address, token, password, ca, otlp }: &Welcome) -> String {
    let telemetry = if *otlp { telemetry(address, token, ca.as_deref()) } else { String::new() };
    let ca = ca.as_ref().map(|ca| quoted(&ca.display().to_string()));
    let url = match &ca {
        Some(ca) => format!("--cacert {ca} https://{address}"),
        None => format!("http://{address}"),
    };
    let security = ca.map_or("SASL_PLAINTEXT".to_owned(), |ca| format!("SASL_SSL -X ssl.ca.location={ca}"));
    let kcat = format!(
        "kcat -P -b {address} -t events -X security.protocol={security} -X sasl.mechanisms=SCRAM-SHA-256 -X sasl.username={DEV_USER} \
         -X sasl.password={}",
        password.expose()
    );
    let curl = |data: &str| {
        format!("curl {url}/v1/events/events -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{data}'")
    };
    let (one, two) = (curl(r#"{"data":{"hello":"world"}}"#), curl(r#"[{"key":"a","data":1},{"key":"b","data":2}]"#));
    format!(
        "Development token:\n{token}\n\nDevelopment password of the user {DEV_USER}, for Kafka producers:\n{}\n\n\
         Send an event, or two (from another shell in this directory):\n{one}\n{two}\n\n\
         Or by the Kafka protocol, one event a line:\n{kcat}\n{telemetry}",
        password.expose()
    )
}

/// The variables by which OpenTelemetry's SDKs find this gate, over HTTP or gRPC.
fn telemetry(address: &SocketAddr, token: &str, ca: Option<&Path>) -> String {
    let scheme = if ca.is_some() { "https" } else { "http" };
    let certificate = ca.map(|ca| format!("export OTEL_EXPORTER_OTLP_CERTIFICATE={}\n", quoted(&ca.display().to_string())));
    format!(
        "\nOr telemetry of an OpenTelemetry SDK, which reads these variables:\n\
         export OTEL_EXPORTER_OTLP_ENDPOINT={scheme}://{address}\n\
         export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\n\
         export OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20{token}\n{}",
        certificate.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;

    #[test]
    fn the_welcome_has_each_command_on_a_line_of_its_own_ready_to_paste() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8443));
        let own =
            |ca: &str| Welcome { address, token: "eyJ.a-b_c.d".into(), password: Secret::new("p-w"), ca: Some(ca.into()), otlp: true };
        let shown = text(&own("certs/dev/ca.pem"));
        let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("curl ")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            "curl --cacert certs/dev/ca.pem https://127.0.0.1:8443/v1/events/events -H 'Authorization: Bearer eyJ.a-b_c.d' \
             -H 'Content-Type: application/json' -d '{\"data\":{\"hello\":\"world\"}}'"
        );
        assert!(shown.lines().any(|line| line == "eyJ.a-b_c.d") && shown.lines().any(|line| line == "p-w"), "{shown}");
        let kcat = "kcat -P -b 127.0.0.1:8443 -t events -X security.protocol=SASL_SSL -X ssl.ca.location=certs/dev/ca.pem \
                    -X sasl.mechanisms=SCRAM-SHA-256 -X sasl.username=developer -X sasl.password=p-w";
        assert!(shown.lines().any(|line| line == kcat), "{shown}");
        assert!(text(&own("a b/ca.pem")).contains("--cacert 'a b/ca.pem' "));
        for line in [
            "export OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:8443",
            "export OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20eyJ.a-b_c.d",
            "export OTEL_EXPORTER_OTLP_CERTIFICATE=certs/dev/ca.pem",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line} is not in {shown}");
        }
        assert!(!text(&Welcome { otlp: false, ..own("ca.pem") }).contains("OTEL_"));
    }
}
