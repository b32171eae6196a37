# shellcheck shell=bash
# the built gate against a real Kafka broker, with real clients
need kafka node "debian:strace"
rc=0
# The clients of the Kafka door and of the OTLP door are steps of their own.
cargo test --release --locked --test gateway -- --skip kafka_clients:: --skip otlp_clients:: 2>&1 | tee "$OUT/gateway.cargo" || rc=$?
cargo_counts "$OUT/gateway.cargo"
exit $rc
