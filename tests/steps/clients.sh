# shellcheck shell=bash
# the Firebase JS SDK, unmodified, against the built gate and a real broker
need kafka node
source tests/support/kafka.sh
source tests/support/gate.sh
dir=$(mktemp -d)
trap 'kill -9 ${GPID:-} ${KPID:-} 2>/dev/null || :; rm -rf "$dir"' EXIT

kafka_start "$dir/kafka"
settings=("$dir/gate" "SLUICEGATE_CONFIG=$ROOT/tests/clients/gate.toml" "REDPANDA_BROKERS=$BROKERS")
(gate_env "${settings[@]}" -- topics --create)
gate_start "${settings[@]}"
TOKEN=$(gate_env "${settings[@]}" -- token --sub u1 --topics frontend-events | tail -n 1)
OTHER_TOKEN=$(gate_env "${settings[@]}" -- token --sub u2 --topics elsewhere | tail -n 1)
export TOKEN OTHER_TOKEN BROKERS URL="https://$HTTPS/ingestEvent" NODE_EXTRA_CA_CERTS=$CA

rc=0
node --test --test-reporter=tap tests/clients/node/ | tee "$OUT/clients.tap" || rc=$?
tap() { sed -n "s/^# $1 //p" "$OUT/clients.tap"; }
passed "$(tap pass)"
[ "$(tap fail)" = 0 ] || failed "$(tap fail)" "$(sed -n 's/^not ok [0-9]* - //p' "$OUT/clients.tap" | paste -sd ';')"
[ $rc = 0 ] || tail -n 20 "$dir/gate/gate.log"
gate_stop
exit $rc
