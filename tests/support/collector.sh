# shellcheck shell=bash
# The OpenTelemetry Collector between OTLP and a broker, as the peer that the gate is measured beside. To be sourced after
# tools.sh (`get_collector`) and kafka.sh, with BROKERS = the broker. What always holds: it listens on free ports of loopback;
# its answer waits for the broker's (acks=all, no queue, no retry), as the gate's does, and nothing is compressed for Kafka.

collector_config() { # GRPC_PORT HTTP_PORT HEALTH_PORT
  cat <<END
receivers:
  otlp:
    protocols:
      grpc: { endpoint: 127.0.0.1:$1, max_recv_msg_size_mib: 16 }
      http: { endpoint: 127.0.0.1:$2, cors: { allowed_origins: [https://app.example], allowed_headers: ["*"], max_age: 7200 } }
exporters:
  kafka:
    brokers: [$BROKERS]
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
    traces: { topic: otlp_spans, encoding: otlp_proto }
    metrics: { topic: otlp_metrics, encoding: otlp_proto }
    logs: { topic: otlp_logs, encoding: otlp_proto }
    producer: { required_acks: -1, compression: ${COLLECTOR_COMPRESSION:-none} }
extensions: { health_check: { endpoint: 127.0.0.1:$3 } }
service:
  extensions: [health_check]
  telemetry: { metrics: { level: none }, logs: { level: warn } }
  pipelines:
    traces: { receivers: [otlp], exporters: [kafka] }
    metrics: { receivers: [otlp], exporters: [kafka] }
    logs: { receivers: [otlp], exporters: [kafka] }
END
}

collector_start() { # DIR: sets CPID, COLLECTOR_HTTP and COLLECTOR_GRPC (host:port)
  local dir=$1 grpc http health
  grpc=$(free_port) http=$(free_port) health=$(free_port)
  mkdir -p "$dir"
  collector_config "$grpc" "$http" "$health" >"$dir/collector.yaml"
  "$BIN/collector" --config "$dir/collector.yaml" >"$dir/collector.log" 2>&1 &
  CPID=$!
  COLLECTOR_HTTP=127.0.0.1:$http COLLECTOR_GRPC=127.0.0.1:$grpc
  export COLLECTOR_HTTP COLLECTOR_GRPC
  for _ in $(seq 400); do
    kafka_up "$http" && kafka_up "$grpc" && return
    kill -0 "$CPID" 2>/dev/null || break
    sleep 0.05
  done
  echo "the Collector did not become ready:"
  tail -n 20 "$dir/collector.log"
  return 1
}
