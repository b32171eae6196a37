# shellcheck shell=bash
# the Firestore inbox before Google's emulator: outages and faults, gates that share it, the platform's reader
need kafka
cargo build --release --locked --example checker
rc=0
# Two at a time, as for the other faults: each keeps a gate, a broker, an emulator and its senders busy.
cargo test --release --locked --test gateway firestore:: -- --test-threads=2 2>&1 | tee "$OUT/firestore.cargo" || rc=$?
cargo_counts "$OUT/firestore.cargo"
exit $rc
