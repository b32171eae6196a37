# shellcheck shell=bash
# the OpenTelemetry SDKs, unmodified, against the built gate, a real broker, and a real Collector behind it
need kafka collector otlp_clients "debian:chromium"
rc=0
cargo test --release --locked --test gateway otlp_clients:: -- --test-threads=3 2>&1 | tee "$OUT/otlp-clients.cargo" || rc=$?
cargo_counts "$OUT/otlp-clients.cargo"
exit $rc
