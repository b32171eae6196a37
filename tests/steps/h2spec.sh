# shellcheck shell=bash
# HTTP/2 conformance of the HTTPS door, but for the cases of h2spec-known.tsv
need h2spec
source tests/support/gate.sh
dir=$(mktemp -d)
trap 'kill -9 ${GPID:-} 2>/dev/null || :; rm -rf "$dir"' EXIT
gate_start "$dir/gate"

h2spec -h "${HTTPS%:*}" -p "${HTTPS#*:}" -t -k -o 3 -P / -j "$OUT/h2spec.xml" || :
[ -s "$OUT/h2spec.xml" ] || { echo "h2spec made no report"; exit 1; }

# One line for each case: its section, its words, and whether it failed.
python3 - "$OUT/h2spec.xml" >"$OUT/h2spec.cases" <<'END'
import re, sys, xml.etree.ElementTree as tree
# The report holds bytes as they came over the wire, which XML does not take.
report = re.sub(r"[^\t\n\x20-\x7e]|&#x?[0-9a-fA-F]+;", "?", open(sys.argv[1], encoding="utf-8", errors="replace").read())
for case in tree.fromstring(report).iter("testcase"):
    bad = case.find("failure") is not None or case.find("error") is not None
    print("failed" if bad else "skipped" if case.find("skipped") is not None else "passed", case.get("package"), case.get("classname"), sep="\t")
END
known=tests/support/h2spec-known.tsv
passed "$(grep -c '^passed' "$OUT/h2spec.cases" || :)"
while IFS=$'\t' read -r _ section words; do
  if grep -qF "$section"$'\t'"$words" "$known"; then passed 1; else failed 1 "$section: $words"; fi
done < <(grep '^failed' "$OUT/h2spec.cases" || :)
# The gate must have survived all of it.
kill -0 "$GPID" || failed 1 "the gate died"
gate_stop || failed 1 "the gate did not stop in order"
