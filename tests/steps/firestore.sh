# shellcheck shell=bash
# the Firestore inbox before Google's emulator: outages and faults, gates that share it, the platform's reader
need kafka
cargo build --release --locked --example checker
rc=0
# Two at a time, as for the other faults: each keeps a gate, a broker, an emulator and its senders busy.
# Of the other doors one row; `tests/faults/run --row doors` has them all.
skip=()
for row in a_frozen a_gate with_firestore a_firestore an_exhausted; do skip+=(--skip "firestore::doors::$row"); done
cargo test --release --locked --test gateway firestore:: -- "${skip[@]}" --test-threads=2 2>&1 | tee "$OUT/firestore.cargo" || rc=$?
cargo_counts "$OUT/firestore.cargo"
exit $rc
