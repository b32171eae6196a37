# shellcheck shell=bash
# the built gate against a real Kafka broker, with real clients
need kafka node "debian:strace"
rc=0
cargo test --release --locked --test gateway 2>&1 | tee "$OUT/gateway.cargo" || rc=$?
cargo_counts "$OUT/gateway.cargo"
exit $rc
