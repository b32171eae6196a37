# shellcheck shell=bash
# short load tests by HTTPS, Kafka, Kafka over WebSocket, OTLP over HTTP and gRPC: error rate, p95, and that every accepted event is in the broker
need kafka k6
https=10s kafka=5s otlp=5s
[ -z "${SLUICEGATE_FULL:-}" ] || https=60s kafka=60s otlp=60s
load() { # WHAT DURATION
  local rc=0
  echo "--- $1"
  loadtests/run "$1" --duration "$2" || rc=$?
  if [ $rc = 0 ]; then passed 1; else failed 1 "$1: a threshold was missed, or an accepted event was not found"; fi
}
load https "$https"
load kafka "$kafka"
load kafka-websocket "$kafka"
load otlp-http "$otlp"
load otlp-grpc "$otlp"
