# shellcheck shell=bash
# The clients of the Kafka door, unmodified from their registries, with the small programs that drive them.
# To be sourced by tools.sh. What always holds: the checkout has sources only; node_modules in it is a link, for Node to look at.

KAFKA_CLIENTS_SRC=$ROOT/tests/clients/kafka
KAFKA_CLIENTS_JAVA=(3.9.2 4.4.0) # The first compiles the program that all of them run.

get_kafka_clients() {
  have node && have npm || missing "no Node (20 or newer) with npm for kafkajs" || return
  have python3 || missing "no Python 3 for the clients in Python" || return
  have javac && have mvn || missing "no JDK with Maven for the clients in Java" || return
  once kafka-clients "$(kafka_clients_stamp)" install_kafka_clients || missing "the Kafka clients could not be installed" || return
  ln -sfn "$CACHE/kafka-clients/node_modules" "$KAFKA_CLIENTS_SRC/node_modules"
}
kafka_clients_stamp() { echo "$(sum "$KAFKA_CLIENTS_SRC"/*.{json,txt,xml,java}) ${KAFKA_CLIENTS_JAVA[*]} $(python3 -V) $(java -version 2>&1 | sum -)"; }

install_kafka_clients() {
  cp "$KAFKA_CLIENTS_SRC"/*.{json,txt,xml,java} "$1/"
  (cd "$1" && npm ci --no-audit --no-fund --loglevel=error)
  python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install -q --disable-pip-version-check -r "$1/requirements.txt"
  local version
  for version in "${KAFKA_CLIENTS_JAVA[@]}"; do
    mvn -B -q -f "$1/pom.xml" -Dkafka.version="$version" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$1/java/$version" >"$1/mvn.log" 2>&1 || { cat "$1/mvn.log"; return 1; }
  done
  javac -Xlint:-options --release 11 -cp "$1/java/${KAFKA_CLIENTS_JAVA[0]}/*" -d "$1/java/classes" "$1/Produce.java"
}
