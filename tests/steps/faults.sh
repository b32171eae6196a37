# shellcheck shell=bash
# faults of broker, gate and disk under load, judged by a separate checker, and the checker's own planted bugs
need kafka "debian:strace"
get_debian faketime redis-server || : # Without them the tests of the clock and of Redis say so.
cargo build --release --locked --example checker
rc=0
# Two at a time: each keeps a gate, a broker and its senders busy, and measures how late an answer is.
# Those that take longer than 20 s each, and are no row of `tests/faults/run --quick`, are run by its --all and --matrix.
skip=(--skip forward_faults:: --skip firestore::)
for long in kafka_door:: otlp_door:: three:: topics:: link:: loss:: backlog:: nemesis::random resources::memory disk::a_slow process::a_rolling \
  shared:: store::after store::a_torn; do
  skip+=(--skip "faults::$long")
done
cargo test --release --locked --test gateway faults:: -- "${skip[@]}" --test-threads=2 2>&1 | tee "$OUT/faults.cargo" || rc=$?
cargo_counts "$OUT/faults.cargo"
exit $rc
