# shellcheck shell=bash
# HTTP/2 conformance of the HTTPS door, but for the cases of h2spec-known.tsv
need h2spec
source tests/support/gate.sh
dir=$(mktemp -d)
trap 'kill -9 ${GPID:-} 2>/dev/null || :; rm -rf "$dir"' EXIT
gate_start "$dir/gate"

# One line for each case: its outcome, its section, its words.
ask() {
  rm -f "$OUT/h2spec.xml"
  h2spec -h "${HTTPS%:*}" -p "${HTTPS#*:}" -t -k -o 3 -P / -j "$OUT/h2spec.xml" || :
  [ -s "$OUT/h2spec.xml" ] || { echo "h2spec made no report"; exit 1; }
  python3 - "$OUT/h2spec.xml" <<'END'
import re, sys, xml.etree.ElementTree as tree
# The report holds bytes as they came over the wire, which XML does not take.
report = re.sub(r"[^\t\n\x20-\x7e]|&#x?[0-9a-fA-F]+;", "?", open(sys.argv[1], encoding="utf-8", errors="replace").read())
for case in tree.fromstring(report).iter("testcase"):
    bad = case.find("failure") is not None or case.find("error") is not None
    print("failed" if bad else "skipped" if case.find("skipped") is not None else "passed", case.get("package"), case.get("classname"), sep="\t")
END
}

# The gate answers before some of the faults that h2spec provokes, and h2spec may then miss what it waits for: a case has
# failed when it fails each of three times.
failed_cases() { grep '^failed' "$1" | sort -u || :; }
ask | tee "$OUT/h2spec.log" | grep -E '^(passed|failed|skipped)'$'\t' >"$OUT/h2spec.cases"
failed_cases "$OUT/h2spec.cases" >"$OUT/h2spec.failed"
known=tests/support/h2spec-known.tsv
unknown() { grep -vFf <(grep -v '^#' "$known") "$OUT/h2spec.failed" || :; }
for _ in 1 2; do
  [ -n "$(unknown)" ] || break
  ask | grep -E '^failed'$'\t' | sort -u >"$OUT/h2spec.again" || :
  comm -12 "$OUT/h2spec.failed" "$OUT/h2spec.again" >"$OUT/h2spec.both"
  mv "$OUT/h2spec.both" "$OUT/h2spec.failed"
done

bad=0
while IFS=$'\t' read -r _ section words; do
  [ -n "$section" ] || continue
  failed 1 "$section: $words"
  bad=$((bad + 1))
done < <(unknown)
passed $(($(grep -c -E '^(passed|failed)' "$OUT/h2spec.cases") - bad))
# The gate must have survived all of it.
kill -0 "$GPID" || failed 1 "the gate died"
gate_stop || failed 1 "the gate did not stop in order"
