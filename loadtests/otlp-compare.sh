# shellcheck shell=bash disable=SC2153,SC2154
# What a span costs through the gate and through an OpenTelemetry Collector, from the socket to the broker's acknowledgement.
# Sourced by `loadtests/run otlp-compare` after compare.sh, kafka.sh, gate.sh and collector.sh, with the broker (KPID, BROKERS).
# What always holds: both get the same bytes from the same client in plain text, both wait for acks=all, both compress with lz4;
# each kind is measured in each round, in turn; a span is acknowledged when its request was answered with 200, and after
# each measurement the topic is read on: it must hold every span that was acknowledged, and no more than were under way
# besides when the client stopped. CPU is that of the whole process, from /proc, divided by the spans that were found.

REQUEST_SPANS=${REQUEST_SPANS:-100}
IN_FLIGHT=${OTLP_IN_FLIGHT:-32} # a multiple of 8: h2 has 8 connections
EXPORT=/opentelemetry.proto.collector.trace.v1.TraceService/Export

# gate_of NAME SETTING...: one more gate, in plain text, with its id, address and token in tables under NAME.
declare -A WHO_PID WHO_HTTP WHO_GRPC WHO_TOKEN
gate_of() {
  local name=$1 own
  shift
  own=("$dir/$name" "SLUICEGATE_CONFIG=$ROOT/loadtests/gate.toml" "REDPANDA_BROKERS=$BROKERS" SLUICEGATE__LISTENERS__PLAINTEXT=true "$@")
  gate_start "${own[@]}"
  GPIDS="${GPIDS:-} $GPID"
  WHO_PID[$name]=$GPID WHO_HTTP[$name]=$HTTPS WHO_GRPC[$name]=$HTTPS
  WHO_TOKEN[$name]=$(gate_env "${own[@]}" -- token --sub load --topics 'otlp_*' | tail -n 1)
}

# measure_otlp NAME KIND SECONDS: one line "NAME KIND requests seconds cpu broker_cpu unexpected mean_us found records".
measure_otlp() {
  local name=$1 kind=$2 seconds=$3 how=() url body fields=() before broker begin took found
  case $kind in
    http) body=traces.pb fields=(-H 'content-type: application/x-protobuf') ;;
    http-gzip) body=traces.pb.gz fields=(-H 'content-type: application/x-protobuf' -H 'content-encoding: gzip') ;;
    json) body=traces.json fields=(-H 'content-type: application/json') ;;
    json-gzip) body=traces.json.gz fields=(-H 'content-type: application/json' -H 'content-encoding: gzip') ;;
    grpc) body=traces.grpc fields=(-H 'content-type: application/grpc' -H 'te: trailers') ;;
    grpc-gzip) body=traces.gz.grpc fields=(-H 'content-type: application/grpc' -H 'te: trailers' -H 'grpc-encoding: gzip') ;;
  esac
  url=http://${WHO_HTTP[$name]}/v1/traces how=(-c "$IN_FLIGHT" -m 1 --h1)
  [[ $kind != grpc* ]] || { url=http://${WHO_GRPC[$name]}$EXPORT how=(-c 8 -m $((IN_FLIGHT / 8))); }
  [ -z "${WHO_TOKEN[$name]:-}" ] || fields+=(-H "authorization: Bearer ${WHO_TOKEN[$name]}")
  before=$(cpu_us "${WHO_PID[$name]}") broker=$(cpu_us "$KPID") begin=$(date +%s%N)
  h2load "${how[@]}" -t 1 -D "$seconds" -d "$dir/bodies/$body" "${fields[@]}" "$url" >"$dir/h2load.out" 2>&1 || { cat "$dir/h2load.out"; return 1; }
  took=$((($(date +%s%N) - begin) / 1000)) before=$(($(cpu_us "${WHO_PID[$name]}") - before)) broker=$(($(cpu_us "$KPID") - broker))
  settle "$name"
  found=$("$OTLP" count "$BROKERS" otlp_spans "$dir/offsets.json")
  awk -v head="$name $kind" -v took="$took" -v cpu="$before" -v broker="$broker" -v found="$found" '
    /^status codes:/ { for (i = 3; i < NF; i += 2) { n[$(i + 1)] = $i } }
    /^time for request:/ { mean = $6; unit = mean; gsub(/[0-9.]/, "", unit); mean += 0
      if (unit == "ms") mean *= 1000; else if (unit == "s") mean *= 1000000 }
    END { for (i in n) { key = i; sub(/,/, "", key); if (key == "2xx") good = n[i]; else bad += n[i] }
      print head, good + 0, took / 1000000, cpu, broker, bad + 0, mean, found }' "$dir/h2load.out" >>"$dir/measured"
}

# What was under way when the client stopped is done when the process uses no CPU any more.
settle() { # NAME
  local last now
  last=$(cpu_us "${WHO_PID[$1]}")
  for _ in $(seq 50); do
    sleep 0.1
    now=$(cpu_us "${WHO_PID[$1]}")
    [ $((now - last)) -gt 10000 ] || return 0
    last=$now
  done
}

otlp_round() { # SECONDS
  local name kind
  for kind in http http-gzip json grpc grpc-gzip; do
    for name in gate gate-whole collector; do measure_otlp "$name" "$kind" "$1"; done
  done
}

# The table. Rounds are summed; the spread is that of CPU per span.
otlp_table() {
  awk -v spans="$REQUEST_SPANS" '
    { k = $2 " " $1; if (!(k in requests)) order[++kinds] = k
      requests[k] += $3; seconds[k] += $4; cpu[k] += $5; broker[k] += $6; bad[k] += $7; mean[k] += $8 * $3; found[k] += $9; records[k] += $10
      if ($9 > 0) { one = $5 / $9; if (!(k in low) || one < low[k]) low[k] = one; if (one > high[k]) high[k] = one } }
    END {
      who["gate"] = "gate, by trace"; who["gate-whole"] = "gate, whole"; who["collector"] = "Collector 0.158"
      what["http"] = "HTTP, protobuf"; what["http-gzip"] = "HTTP, protobuf, gzip"; what["json"] = "HTTP, JSON"
      what["grpc"] = "gRPC"; what["grpc-gzip"] = "gRPC, gzip"
      print "| load | through | spans/s | CPU µs/span | (rounds) | broker CPU µs/span | mean ms | records/request | unexpected | acknowledged | found |"
      print "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
      for (i = 1; i <= kinds; i++) {
        k = order[i]; split(k, part, " "); n = requests[k] ? requests[k] : 1; all = found[k] ? found[k] : 1
        printf "| %s | %s | %d | %.2f | %.2f–%.2f | %.2f | %.1f | %.1f | %d | %d | %d |\n", what[part[1]], who[part[2]], requests[k] * spans / seconds[k],
          cpu[k] / all, low[k], high[k], broker[k] / all, mean[k] / n / 1000, records[k] * spans / all, bad[k],
          requests[k] * spans, found[k]
      }
    }' "$dir/measured"
}

otlp_compare() {
  local bad
  mkdir -p "$dir/bodies"
  "$OTLP" bodies "$dir/bodies" "$REQUEST_SPANS"
  gate_of gate
  gate_of gate-whole SLUICEGATE__OTLP__TRACES_KEYS=none
  COLLECTOR_COMPRESSION=lz4 collector_start "$dir/collector"
  WHO_PID[collector]=$CPID WHO_HTTP[collector]=$COLLECTOR_HTTP WHO_GRPC[collector]=$COLLECTOR_GRPC
  : >"$dir/measured"
  # The first seconds are not the machine at its pace: the broker compiles its code while it runs.
  otlp_round 1
  : >"$dir/measured"
  for _ in $(seq "$rounds"); do otlp_round "$SECONDS_EACH"; done
  {
    echo "$(nproc) cores shared by client, gate (or Collector) and broker: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r)."
    echo "$rounds rounds of ${SECONDS_EACH} s each, $IN_FLIGHT requests in flight, plain text, $REQUEST_SPANS spans in $((REQUEST_SPANS / 10)) traces a request:" \
      "protobuf $(wc -c <"$dir/bodies/traces.pb") B, in gzip $(wc -c <"$dir/bodies/traces.pb.gz") B, JSON $(wc -c <"$dir/bodies/traces.json") B. One broker, six partitions, acks=all, lz4."
    echo
    otlp_table
  } | tee "$report/otlp-compare.md"
  bad=$(awk -v spans="$REQUEST_SPANS" -v flight="$IN_FLIGHT" '$7 > 0 || $3 == 0 || $9 < $3 * spans || $9 > ($3 + flight) * spans' "$dir/measured")
  [ -z "$bad" ] || { echo "not as expected (name kind requests seconds cpu broker_cpu unexpected mean_us found records):"; echo "$bad"; return 1; } >&2
}
