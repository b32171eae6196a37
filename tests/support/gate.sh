# shellcheck shell=bash
# The built gate for shell scripts. To be sourced, with GATE = the binary.
# What always holds: it listens on free ports of loopback, in the folder it is given, with no environment but what it is given.

# gate_env DIR NAME=VALUE... -- ARGUMENT...: a command of the gate's (token, topics, inbox) with the gate's own settings.
gate_env() {
  local dir=$1 env=(PATH="$PATH" STRUCTURED_LOGS=true SLUICEGATE__LISTENERS__BIND=127.0.0.1:0 SLUICEGATE__ADMIN__BIND=127.0.0.1:0)
  shift
  while [ "$1" != -- ]; do env+=("$1"); shift; done
  shift
  mkdir -p "$dir"
  cd "$dir" && exec env -i "${env[@]}" "$GATE" "$@"
}

# gate_start DIR NAME=VALUE...: sets GPID, HTTPS and ADMIN (host:port) and CA.
gate_start() {
  local dir=$1
  mkdir -p "$dir"
  (gate_env "$@" -- serve) >"$dir/gate.log" 2>&1 &
  GPID=$!
  CA=$dir/certs/dev/ca.pem
  HTTPS='' ADMIN=''
  local ready
  for _ in $(seq 400); do
    ready=$(grep -m1 '"message":"ready"' "$dir/gate.log" || :)
    [ -z "$ready" ] || break
    kill -0 "$GPID" 2>/dev/null || break
    sleep 0.05
  done
  HTTPS=$(sed -n 's/.*"https":"\([^"]*\)".*/\1/p' <<<"$ready")
  ADMIN=$(sed -n 's/.*"admin":"\([^"]*\)".*/\1/p' <<<"$ready")
  export CA HTTPS ADMIN
  [ -n "$HTTPS" ] || { echo "the gate did not become ready:"; tail -n 20 "$dir/gate.log"; return 1; }
}

# gate_stop: an orderly stop; its exit status.
gate_stop() { kill "$GPID" 2>/dev/null || :; wait "$GPID"; }
