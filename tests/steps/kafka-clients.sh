# shellcheck shell=bash
# six Kafka clients, unmodified, against the built gate and a real cluster of three brokers
need kafka kafka_clients
rc=0
# Three at a time: most of what these tests do is wait for the pace of a client, or for an outage's end.
cargo test --release --locked --test gateway kafka_clients:: -- --test-threads=3 2>&1 | tee "$OUT/kafka-clients.cargo" || rc=$?
cargo_counts "$OUT/kafka-clients.cargo"
exit $rc
