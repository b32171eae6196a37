# shellcheck shell=bash
# the OpenTelemetry SDKs, unmodified, against the built gate, a real broker, and a real Collector behind it
need kafka collector otlp_clients
get_debian chromium || : # Without one, the tests that need it say so.
rc=0
# Three at a time: most of what these tests do is wait for an outage's end.
cargo test --release --locked --test gateway otlp_clients:: -- --test-threads=3 2>&1 | tee "$OUT/otlp-clients.cargo" || rc=$?
cargo_counts "$OUT/otlp-clients.cargo"
exit $rc
