package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluicegate/loadtests/kafka-extension/client"
)

const (
	recordBytes = 1024
	producers   = 4
	partitions  = 3
	inFlight    = 4096 // records of all producers that are not acknowledged, at full speed
	paced       = 2000 // records a second, when latency is what is looked at
)

// How many topics the records are spread over.
var spreads = []int{1, 10, 100}

func topic(spread, i int) string { return fmt.Sprintf("loadtest-%d-%d", spread, i) }

// makeTopics makes, at the broker, all that produce sends to.
func makeTopics(s settings) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker))
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	for _, spread := range spreads {
		for i := range spread {
			made := kmsg.NewCreateTopicsRequestTopic()
			made.Topic, made.NumPartitions, made.ReplicationFactor = topic(spread, i), partitions, 1
			req.Topics = append(req.Topics, made)
		}
	}
	answer, err := req.RequestWith(context.Background(), cl)
	if err != nil {
		return err
	}
	for _, made := range answer.Topics {
		if err := kerr.ErrorForCode(made.ErrorCode); err != nil {
			return fmt.Errorf("%s: %w", made.Topic, err)
		}
	}
	return nil
}

// measured is what one way to the broker did, all rounds together.
type measured struct {
	records, failed   int
	took              time.Duration
	gate, broker, own time.Duration
	all               time.Duration // CPU of the whole machine
	latency           times
	pacedLatency      times
}

// produce measures each way in each round, in turn, so that what the machine does meanwhile meets all of them.
func produce(s settings) error {
	direct := client.Config{Brokers: []string{s.broker}}
	ways := []struct {
		name string
		to   client.Config
	}{
		{"broker, plain text", direct},
		{"gate, plain text + SCRAM", s.through("plain")},
		{"gate, TLS + SCRAM", s.through("TLS")},
		{"gate, WebSocket in TLS + SCRAM", s.through("WebSocket")},
	}
	row("topics", "way", "MB/s", "records/s", "p50 ms", "p99 ms", "gate CPU ms/MB", "broker CPU ms/MB", "client CPU ms/MB",
		fmt.Sprintf("at %d/s: p50 ms", paced), "p99 ms", "others' CPU %", "failed")
	row("--:", "---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:")
	failed := 0
	for _, spread := range spreads {
		if !slices.Contains(strings.Split(s.topics, ","), strconv.Itoa(spread)) {
			continue
		}
		all := make([]measured, len(ways))
		// The first seconds are not the broker's pace: it opens files, and compiles its code while it runs.
		if err := s.send(direct, spread, 0, &measured{}); err != nil {
			return err
		}
		for range s.rounds {
			for _, rate := range []int{0, paced} {
				for i, way := range ways {
					if err := s.send(way.to, spread, rate, &all[i]); err != nil {
						return err
					}
				}
			}
		}
		for i, way := range ways {
			all[i].print(spread, way.name)
			failed += all[i].failed
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d records failed", failed)
	}
	return nil
}

func (m *measured) print(spread int, way string) {
	mb := float64(m.records) * recordBytes / 1e6
	perMB := func(cpu time.Duration) string { return fmt.Sprintf("%.2f", cpu.Seconds()*1000/mb) }
	others := (m.all - m.gate - m.broker - m.own).Seconds() / m.took.Seconds() / float64(runtime.NumCPU())
	row(spread, way, fmt.Sprintf("%.0f", mb/m.took.Seconds()), fmt.Sprintf("%.0f", float64(m.records)/m.took.Seconds()),
		m.latency.at(0.5), m.latency.at(0.99), perMB(m.gate), perMB(m.broker), perMB(m.own), m.pacedLatency.at(0.5), m.pacedLatency.at(0.99),
		fmt.Sprintf("%.0f", 100*others), m.failed)
}

// send sends for a while, at a rate (records a second) or as fast as records are acknowledged (0), and adds to into.
func (s settings) send(to client.Config, spread, rate int, into *measured) error {
	clients := make([]*kgo.Client, producers)
	for i := range clients {
		opts, err := to.Options()
		if err != nil {
			return err
		}
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(5*time.Millisecond),
			kgo.MaxBufferedRecords(inFlight/producers))
		if rate > 0 {
			opts = append(opts, kgo.ProducerLinger(0))
		}
		if clients[i], err = kgo.NewClient(opts...); err != nil {
			return err
		}
		defer clients[i].Close()
		if err := warm(clients[i], spread); err != nil {
			return err
		}
	}
	gate, broker, own, all := cpu(s.gatePid), cpu(s.brokerPid), ownCPU(), machine()
	begin := time.Now()
	one := make([]measured, producers)
	var filling sync.WaitGroup
	for i, cl := range clients {
		filling.Go(func() { one[i].fill(cl, spread, i, begin.Add(s.each), rate/producers) })
	}
	filling.Wait()
	took := time.Since(begin)
	for _, m := range one {
		into.failed += m.failed
		if rate > 0 {
			into.pacedLatency = append(into.pacedLatency, m.latency...)
			continue
		}
		into.records += m.records
		into.latency = append(into.latency, m.latency...)
	}
	if rate == 0 {
		into.took += took
		into.gate += cpu(s.gatePid) - gate
		into.broker += cpu(s.brokerPid) - broker
		into.own += ownCPU() - own
		into.all += machine() - all
	}
	return nil
}

// warm sends one record to each topic, so that connections, logins and metadata are not in the figures.
func warm(cl *kgo.Client, spread int) error {
	var records []*kgo.Record
	for i := range spread {
		records = append(records, &kgo.Record{Topic: topic(spread, i), Value: []byte("warm")})
	}
	return cl.ProduceSync(context.Background(), records...).FirstErr()
}

// fill sends records of random bytes to all topics in turn until the time is over, and waits for the last.
func (m *measured) fill(cl *kgo.Client, spread, from int, until time.Time, rate int) {
	value := make([]byte, recordBytes)
	rand.Read(value)
	var lock sync.Mutex
	next := time.Now()
	for i := from; time.Now().Before(until); i++ {
		if rate > 0 {
			time.Sleep(time.Until(next))
			next = next.Add(time.Second / time.Duration(rate))
		}
		begin := time.Now()
		cl.Produce(context.Background(), &kgo.Record{Topic: topic(spread, i%spread), Value: value}, func(_ *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				m.failed++
				return
			}
			m.records++
			m.latency = append(m.latency, time.Since(begin))
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		m.failed++
	}
}
