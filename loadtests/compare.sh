# shellcheck shell=bash disable=SC2154
# What the gate costs beside a bare echo on the same HTTP and TLS libraries. Sourced by `loadtests/run compare`, with the
# broker (KPID), the gate (GPID, HTTPS, TOKEN) and the echo (EPID, ECHO) running, and $dir and $report to write to.
# What always holds: each kind is measured in each round, in turn, so that what the machine does meanwhile meets all of
# them; a server's CPU is that of its whole process, from /proc, divided by the requests that were answered as expected.

TICKS=$(getconf CLK_TCK)
IN_FLIGHT=${IN_FLIGHT:-64} # a multiple of 8: h2 has 8 connections

cpu_us() { awk -v hz="$TICKS" '{ sub(/^.*\) /, ""); printf "%d", ($12 + $13) * 1000000 / hz }' "/proc/$1/stat"; } # PID: user + system

# Bodies of bytes that do not compress to nothing: 1 KB each.
make_bodies() { # DIR
  python3 - "$1" <<'END_PYTHON'
import base64, json, os, sys
event = lambda n: {"key": f"k{n}", "data": {"n": n, "filler": base64.b64encode(os.urandom(720)).decode()}}
for name, body in ("single", event(7)), ("batch", [event(n) for n in range(100)]):
    with open(f"{sys.argv[1]}/{name}.json", "w") as file:
        json.dump(body, file, separators=(",", ":"))
END_PYTHON
}

# measure KIND PROTOCOL PID URL BODY EVENTS STATUS: one line "KIND PROTOCOL requests seconds cpu broker_cpu events unexpected mean_us".
# The class of status (2xx, 4xx) is what is expected; everything else is counted as unexpected.
measure() {
  local kind=$1 protocol=$2 pid=$3 url=$4 body=$5 events=$6 status=$7 how before broker begin took
  how=(-c "$IN_FLIGHT" -m 1 --h1)
  [ "$protocol" = http/1.1 ] || how=(-c 8 -m $((IN_FLIGHT / 8)))
  before=$(cpu_us "$pid") broker=$(cpu_us "$KPID") begin=$(date +%s%N)
  h2load "${how[@]}" -t 1 -D "$SECONDS_EACH" -d "$body" -H 'content-type: application/json' -H "authorization: Bearer $TOKEN" "$url" >"$dir/h2load.out" 2>&1 ||
    { cat "$dir/h2load.out"; return 1; }
  took=$((($(date +%s%N) - begin) / 1000)) before=$(($(cpu_us "$pid") - before)) broker=$(($(cpu_us "$KPID") - broker))
  awk -v head="$kind $protocol" -v took="$took" -v cpu="$before" -v broker="$broker" -v events="$events" -v class="$status" '
    /^status codes:/ { for (i = 3; i < NF; i += 2) { n[$(i + 1)] = $i } }
    /^requests:/ { errored = $(NF - 3) }
    /^time for request:/ { mean = $6; unit = mean; gsub(/[0-9.]/, "", unit); mean += 0
      if (unit == "ms") mean *= 1000; else if (unit == "s") mean *= 1000000 }
    END { for (i in n) { key = i; sub(/,/, "", key); if (key == class) good = n[i]; else bad += n[i] }
      print head, good + 0, took / 1000000, cpu, broker, events, bad + 0, mean }' "$dir/h2load.out" >>"$dir/measured"
}

round() {
  local protocol
  for protocol in http/1.1 h2; do
    measure echo "$protocol" "$EPID" "https://$ECHO/" "$dir/single.json" 0 2xx
    measure denied "$protocol" "$GPID" "https://$HTTPS/v1/events/not-granted" "$dir/single.json" 0 4xx
    measure single "$protocol" "$GPID" "https://$HTTPS/v1/events/loadtest" "$dir/single.json" 1 2xx
  done
  measure batch h2 "$GPID" "https://$HTTPS/v1/events/loadtest" "$dir/batch.json" 100 2xx
}

# The table, and each kind beside the echo of its protocol. Rounds are summed; the spread is that of CPU per request.
table() {
  awk '
    { k = $1 " " $2; if (!(k in requests)) order[++kinds] = k
      requests[k] += $3; seconds[k] += $4; cpu[k] += $5; broker[k] += $6; events[k] += $3 * $7; bad[k] += $8; mean[k] += $9 * $3
      if ($3 > 0) { one = $5 / $3; if (!(k in low) || one < low[k]) low[k] = one; if (one > high[k]) high[k] = one } }
    END {
      name["echo"] = "bare echo, 1 KB"; name["denied"] = "gate, 1 KB, refused (403)"
      name["single"] = "gate, 1 KB event, acks=all"; name["batch"] = "gate, 100 events of 1 KB"
      print "| what | HTTP | requests/s | events/s | CPU µs/request | (rounds) | CPU µs/event | broker CPU µs/request | mean ms | unexpected |"
      print "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
      for (i = 1; i <= kinds; i++) {
        k = order[i]; split(k, part, " "); n = requests[k] ? requests[k] : 1; gate = part[1] != "echo"; e = events[k]
        printf "| %s | %s | %d | %s | %.0f | %.0f–%.0f | %s | %s | %.1f | %d |\n", name[part[1]], part[2], requests[k] / seconds[k],
          e ? sprintf("%d", e / seconds[k]) : "", cpu[k] / n, low[k], high[k], e ? sprintf("%.1f", cpu[k] / e) : "",
          e ? sprintf("%.0f", broker[k] / n) : "", mean[k] / n / 1000, bad[k]
      }
    }' "$dir/measured"
}

compare() {
  make_bodies "$dir"
  # The first seconds are not the machine at its pace: the broker compiles its code while it runs.
  SECONDS_EACH=2 measure single h2 "$GPID" "https://$HTTPS/v1/events/loadtest" "$dir/single.json" 1 2xx
  SECONDS_EACH=1 measure batch h2 "$GPID" "https://$HTTPS/v1/events/loadtest" "$dir/batch.json" 100 2xx
  : >"$dir/measured"
  for _ in $(seq "$rounds"); do round; done
  {
    echo "$(nproc) cores shared by client, gate (or echo) and broker: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r)."
    echo "$rounds rounds of ${SECONDS_EACH} s each, $IN_FLIGHT requests in flight, TLS 1.3, body $(wc -c <"$dir/single.json") B (batch $(wc -c <"$dir/batch.json") B), one broker, lz4."
    echo
    table
  } | tee "$report/compare.md"
  ! awk '$8 > 0 || $3 == 0 { bad = 1 } END { exit !bad }' "$dir/measured" || { echo "some requests were not answered as expected" >&2; return 1; }
}
