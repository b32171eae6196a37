# shellcheck shell=bash
# the tests beside the code, the import rules, the examples in the documentation
tests=()
for file in tests/*.rs; do
  [ ! -f "$file" ] || tests+=(--test "$(basename "$file" .rs)")
done
rc=0
cargo test --release --locked --no-fail-fast --lib --bins "${tests[@]}" 2>&1 | tee "$OUT/unit.cargo" || rc=$?
cargo test --release --locked --doc 2>&1 | tee -a "$OUT/unit.cargo" || rc=$?
cargo_counts "$OUT/unit.cargo"
exit $rc
