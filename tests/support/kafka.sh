# shellcheck shell=bash
# One real Kafka broker (KRaft, its own controller) for shell scripts. To be sourced after tools.sh's `get_kafka`.
# What always holds: it listens on loopback only, its data lies in a folder of its own, and KPID is the broker itself.

KAFKA_DIR=${SLUICEGATE_KAFKA_HOME:?run tests/support/tools.sh get_kafka first}

kafka_tool() { java -Xmx256m "@$KAFKA_DIR/jvm.args" -Dkafka.log.level=warn "$@"; } # CLASS ARGS: any tool of Kafka's
kafka_up() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port nobody listens on, below those that the kernel gives to outgoing connections: a client that
# knocks at a stopped broker can then never be connected to itself.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    kafka_up $port || { echo $port; return; }
  done
}

kafka_properties() { # DIR PORT CONTROLLER_PORT
  cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$3
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$1/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=2097152
broker.heartbeat.interval.ms=100
broker.session.timeout.ms=1000
${KAFKA_PROPERTIES:-}
END
}

kafka_start() { # DIR: from nothing to a broker that answers; sets KPID and BROKERS
  local dir=$1 port controller
  port=$(free_port)
  controller=$(free_port)
  mkdir -p "$dir/data"
  kafka_properties "$dir" "$port" "$controller" >"$dir/server.properties"
  [ ! -d "$KAFKA_DIR/formatted" ] || cp -r "$KAFKA_DIR/formatted/." "$dir/data"
  kafka_run "$dir" "$port"
}

kafka_run() { # DIR PORT [JVM OPTION]
  # shellcheck disable=SC2086
  java -Xmx512m "@$KAFKA_DIR/jvm.args" ${3:-} kafka.Kafka "$1/server.properties" >"$1/broker.log" 2>&1 &
  KPID=$!
  BROKERS=127.0.0.1:$2
  for _ in $(seq 600); do
    kafka_up "$2" && return
    kill -0 $KPID 2>/dev/null || break
    sleep 0.05
  done
  tail -20 "$1/broker.log"
  return 1
}

kafka_stop() { kill "$KPID" 2>/dev/null || :; wait "$KPID" 2>/dev/null || :; }

# Once per installation: the formatted folder that every later broker copies, and the class data archive.
kafka_seed() { # DIR
  local dir=$1 work
  work=$(mktemp -d)
  kafka_properties "$work" 29092 29093 >"$work/format.properties"
  kafka_tool kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$work/format.properties" >"$work/format.log" 2>&1 ||
    { cat "$work/format.log"; return 1; }
  cp -r "$work/data" "$dir/formatted"
  local port controller
  port=$(free_port)
  controller=$(free_port)
  kafka_properties "$work" "$port" "$controller" >"$work/server.properties"
  sed -i "s#^-XX:SharedArchiveFile=#-XX:ArchiveClassesAtExit=#" "$dir/jvm.args"
  kafka_run "$work" "$port" || return
  sed -i "s#^-XX:ArchiveClassesAtExit=#-XX:SharedArchiveFile=#" "$dir/jvm.args"
  kafka_tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$BROKERS" --list >/dev/null
  kafka_stop
  rm -rf "$work"
  [ -s "$dir/kafka.jsa" ]
}

kafka_end() { # TOPIC: how many records it holds, over all partitions
  kafka_tool org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$BROKERS" --topic "$1" | awk -F: '{ n += $3 } END { print n + 0 }'
}

kafka_read() { # TOPIC PROPERTY=VALUE...: every record, one a line, as the formatter's properties say
  local end topic=$1 shown=()
  shift
  end=$(kafka_end "$topic")
  [ "$end" -gt 0 ] || return 0
  for _; do shown+=(--formatter-property "$1"); shift; done
  kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$BROKERS" --topic "$topic" --from-beginning \
    --max-messages "$end" --timeout-ms 20000 "${shown[@]}" 2>/dev/null
}

# One a line, of every record of TOPIC: its header x-deml-event-id; its key.
kafka_ids() { kafka_read "$1" print.headers=true print.value=false | grep -o 'x-deml-event-id:[^,[:space:]]*' | cut -d: -f2-; }
kafka_keys() { kafka_read "$1" print.key=true print.value=false; }
