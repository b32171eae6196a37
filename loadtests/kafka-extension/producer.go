package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.k6.io/k6/v2/js/modules"
	"go.k6.io/k6/v2/metrics"

	"sluicegate/loadtests/kafka-extension/client"
)

// root makes what each virtual user imports.
type root struct{}

// instance is the module as one virtual user has it. All instances share their metrics by name.
type instance struct {
	vu                  modules.VU
	acked, failed, took *metrics.Metric
}

func (root) NewModuleInstance(vu modules.VU) modules.Instance {
	known := vu.InitEnv().Registry
	return &instance{
		vu:     vu,
		acked:  known.MustNewMetric("kafka_records_acked", metrics.Counter),
		failed: known.MustNewMetric("kafka_records_failed", metrics.Rate),
		took:   known.MustNewMetric("kafka_produce_duration", metrics.Trend, metrics.Time),
	}
}

func (i *instance) Exports() modules.Exports {
	return modules.Exports{Named: map[string]any{"connect": i.connect}}
}

// producer is one client of its own; it connects when it has something to send.
type producer struct {
	*instance
	client *kgo.Client
}

func (i *instance) connect(config client.Config) (*producer, error) {
	opts, err := config.Options()
	if err != nil {
		return nil, err
	}
	made, err := kgo.NewClient(append(opts, kgo.ProducerLinger(0))...)
	return &producer{i, made}, err
}

// record as a script writes it: `{ key, value, headers: { name: value } }`.
type record struct {
	Key, Value string
	Headers    map[string]string
}

// result of a record: where it is, or why it is not there.
type result struct {
	Partition int32
	Offset    int64
	Error     string
}

// Produce sends records and waits until each is acknowledged or has failed; results are in the records' order.
func (p *producer) Produce(topic string, records []record) []result {
	sent := make([]*kgo.Record, len(records))
	place := make(map[*kgo.Record]int, len(records))
	for i, r := range records {
		sent[i] = &kgo.Record{Topic: topic, Key: []byte(r.Key), Value: []byte(r.Value)}
		for name, value := range r.Headers {
			sent[i].Headers = append(sent[i].Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
		place[sent[i]] = i
	}
	results := make([]result, len(records))
	begin := time.Now()
	for _, done := range p.client.ProduceSync(context.WithoutCancel(p.vu.Context()), sent...) {
		at := &results[place[done.Record]]
		at.Partition, at.Offset = done.Record.Partition, done.Record.Offset
		if done.Err != nil {
			at.Error = done.Err.Error()
		}
	}
	p.count(results, time.Since(begin))
	return results
}

// Close ends its connections.
func (p *producer) Close() { p.client.Close() }

func (p *producer) count(results []result, took time.Duration) {
	state, now := p.vu.State(), time.Now()
	tags := state.Tags.GetCurrentValues().Tags
	sample := func(of *metrics.Metric, value float64) metrics.Sample {
		return metrics.Sample{TimeSeries: metrics.TimeSeries{Metric: of, Tags: tags}, Time: now, Value: value}
	}
	acked, samples := 0, []metrics.Sample{sample(p.took, metrics.D(took))}
	for _, r := range results {
		failed := 0.0
		if r.Error != "" {
			failed = 1
		} else {
			acked++
		}
		samples = append(samples, sample(p.failed, failed))
	}
	samples = append(samples, sample(p.acked, float64(acked)))
	metrics.PushIfNotDone(p.vu.Context(), state.Samples, metrics.ConnectedSamples{Samples: samples, Tags: tags, Time: now})
}
