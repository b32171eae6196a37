// kafka-load makes the figures of docs/performance.md that k6 cannot: producers at full speed beside the same producers
// directly at the broker, and connections by the thousand. `loadtests/run` starts the broker and the gate for it.
//
// What always holds: a server's CPU and memory are those of its whole process, from /proc; whatever did not end as
// expected is counted, shown, and makes the exit status 1.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"sluicegate/loadtests/kafka-extension/client"
)

// settings are those of all commands; each uses what it needs.
type settings struct {
	broker, gate string // host:port
	ca           string
	brokerPid    int
	gatePid      int
	rounds       int
	each         time.Duration
	topics       string
	rate         int
	storm        int
	idle         int
}

func main() {
	var s settings
	flag.StringVar(&s.broker, "broker", "", "the broker's `HOST:PORT`, plain text")
	flag.StringVar(&s.gate, "gate", "", "the gate's `HOST:PORT`")
	flag.StringVar(&s.ca, "ca", "", "`FILE` with the certificate that the gate is trusted by")
	flag.IntVar(&s.brokerPid, "broker-pid", 0, "the broker's process")
	flag.IntVar(&s.gatePid, "gate-pid", 0, "the gate's process")
	flag.IntVar(&s.rounds, "rounds", 1, "how often each way is measured")
	flag.DurationVar(&s.each, "each", 3*time.Second, "how long each way is measured in each round; connections: how long at --rate")
	flag.StringVar(&s.topics, "topics", "1,10,100", "over how many topics records are spread, one after another: some of these")
	flag.IntVar(&s.rate, "rate", 500, "new connections a second")
	flag.IntVar(&s.storm, "storm", 5000, "connections at once")
	flag.IntVar(&s.idle, "idle", 2000, "idle connections")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "Usage: kafka-load [OPTION...] topics|produce|connections (the user: KAFKA_USER, KAFKA_PASSWORD)")
		flag.PrintDefaults()
	}
	flag.Parse()
	commands := map[string]func(settings) error{"topics": makeTopics, "produce": produce, "connections": connections}
	command, known := commands[flag.Arg(0)]
	if !known || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(64)
	}
	if err := command(s); err != nil {
		fmt.Fprintln(os.Stderr, "kafka-load:", err)
		os.Exit(1)
	}
}

// through is a client of the gate: in plain text, over TLS, or inside a WebSocket.
func (s settings) through(way string) client.Config {
	config := client.Config{
		Brokers: []string{s.gate}, CA: s.ca, Mechanism: "SCRAM-SHA-512",
		User: os.Getenv("KAFKA_USER"), Password: os.Getenv("KAFKA_PASSWORD"),
	}
	config.TLS = way == "TLS"
	if way == "WebSocket" {
		config.WebSocket = "wss://" + s.gate + "/kafka"
	}
	return config
}

// row prints one line of a table in Markdown.
func row(cells ...any) {
	words := make([]string, len(cells))
	for i, cell := range cells {
		words[i] = fmt.Sprint(cell)
	}
	fmt.Println("| " + strings.Join(words, " | ") + " |")
}
