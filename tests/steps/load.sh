# shellcheck shell=bash
# a short load test: error rate, p95, and that every accepted event is in the broker
need kafka k6
rc=0
loadtests/run https --duration "$([ -n "${SLUICEGATE_FULL:-}" ] && echo 60s || echo 10s)" || rc=$?
if [ $rc = 0 ]; then passed 1; else failed 1 "a threshold was missed, or an accepted event was not found"; fi
