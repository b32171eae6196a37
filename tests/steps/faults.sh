# shellcheck shell=bash
# faults of broker, gate and disk under load, judged by a separate checker, and the checker's own planted bugs
need kafka "debian:strace"
cargo build --release --locked --example checker
rc=0
# Two at a time: each keeps a gate, a broker and its senders busy, and measures how late an answer is.
cargo test --release --locked --test gateway faults:: -- --skip forward_faults:: --skip firestore:: --test-threads=2 2>&1 | tee "$OUT/faults.cargo" || rc=$?
cargo_counts "$OUT/faults.cargo"
exit $rc
