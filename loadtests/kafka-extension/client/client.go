// Package client makes Kafka clients for load tests: over TLS or a WebSocket, with SASL or without.
//
// What always holds: a client waits for all acknowledgements, every wait has an end, and the certificate is verified.
package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// How long a record may take, all attempts together. Longer than the gate takes to refuse for now.
const deliveryTimeout = 30 * time.Second

// Config says where a client connects to, and as whom. JavaScript and flags fill it.
type Config struct {
	Brokers   []string // host:port
	WebSocket string   `js:"websocket"` // wss://host:port/kafka: the way to all brokers, whatever their addresses are
	TLS       bool     `js:"tls"`
	CA        string   `js:"ca"` // a file; empty: the system's
	Mechanism string   // SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN; empty: no SASL
	User      string
	Password  string
}

// Options for a franz-go client that is what c says.
func (c Config) Options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.RetryTimeout(deliveryTimeout),
	}
	secure, err := c.Secure()
	if err != nil {
		return nil, err
	}
	switch {
	case c.WebSocket != "":
		opts = append(opts, kgo.Dialer(dialer{c.WebSocket, secure}.dial))
	case c.TLS:
		opts = append(opts, kgo.DialTLSConfig(secure))
	}
	if c.Mechanism == "" {
		return opts, nil
	}
	mechanism, err := c.mechanism()
	return append(opts, kgo.SASL(mechanism)), err
}

func (c Config) mechanism() (sasl.Mechanism, error) {
	switch c.Mechanism {
	case "SCRAM-SHA-256":
		return scram.Auth{User: c.User, Pass: c.Password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: c.User, Pass: c.Password}.AsSha512Mechanism(), nil
	case "PLAIN":
		return plain.Auth{User: c.User, Pass: c.Password}.AsMechanism(), nil
	}
	return nil, fmt.Errorf("no mechanism %q: SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN", c.Mechanism)
}

// Secure is TLS with the certificate authority of c.
func (c Config) Secure() (*tls.Config, error) {
	if c.CA == "" {
		return &tls.Config{}, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", c.CA)
	}
	return &tls.Config{RootCAs: roots}, nil
}
