# shellcheck shell=bash
# the built gate against a real Kafka broker, with real clients
need kafka node "debian:strace"
get_debian redis-server || : # Without it the tests of shared quotas say so.
redis-server --version || :
rc=0
# The faults, the Firestore inbox, and the clients of the Kafka door and of the OTLP door, are steps of their own.
skip=(--skip kafka_clients:: --skip otlp_clients:: --skip firestore::)
parts=(backlog broker clock disk kafka_door keys lies link loss nemesis otlp_door planted process resources rules shared store three topics)
for part in "${parts[@]}"; do skip+=(--skip "faults::$part::"); done
cargo test --release --locked --test gateway -- "${skip[@]}" 2>&1 | tee "$OUT/gateway.cargo" || rc=$?
cargo_counts "$OUT/gateway.cargo"
exit $rc
