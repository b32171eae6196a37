package main

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// How long any connection of ours may take for all that it does. Longer than the gate gives it.
const patience = 30 * time.Second

// dialled counts connections, for their source addresses.
var dialled atomic.Uint32

// wire is one connection that speaks as little Kafka as a login needs.
type wire struct {
	net.Conn
	asked int32
}

// dial connects, over TLS where secure is given. Each comes from the next of 32 addresses of loopback, because the gate
// takes so many from one address and not more.
func dial(to string, secure *tls.Config) (*wire, error) {
	from := net.IPv4(127, 0, 1, byte(1+dialled.Add(1)%32))
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: patience}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if secure != nil {
		over := tls.Client(conn, secure)
		if err := over.Handshake(); err != nil {
			conn.Close()
			return nil, err
		}
		conn = over
	}
	return &wire{Conn: conn}, nil
}

func (w *wire) ask(request kmsg.Request, answer kmsg.Response) error {
	w.asked++
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("kafka-load"))
	if _, err := w.Write(formatter.AppendRequest(nil, request, w.asked)); err != nil {
		return err
	}
	var head [8]byte // size and correlation id
	if _, err := io.ReadFull(w, head[:]); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(head[:4]))
	if size < 4 || size > 1<<20 {
		return fmt.Errorf("an answer of %d bytes", size)
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(w, body); err != nil {
		return err
	}
	answer.SetVersion(request.GetVersion())
	return answer.ReadFrom(body)
}

// versions is the first thing that every client asks.
func (w *wire) versions() error {
	request := kmsg.NewPtrApiVersionsRequest()
	request.Version, request.ClientSoftwareName, request.ClientSoftwareVersion = 3, "kafka-load", "1"
	answer := kmsg.NewPtrApiVersionsResponse()
	if err := w.ask(request, answer); err != nil {
		return err
	}
	return kerr.ErrorForCode(answer.ErrorCode)
}

// login by SASL; version 1 of SaslAuthenticate, whose answer's head has no tags.
func (w *wire) login(as *scrammer) error {
	handshake, mechanisms := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLHandshakeResponse()
	handshake.Version, handshake.Mechanism = 1, as.mechanism
	if err := w.ask(handshake, mechanisms); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(mechanisms.ErrorCode); err != nil {
		return err
	}
	return as.login(func(message string) (string, error) {
		request, answer := kmsg.NewPtrSASLAuthenticateRequest(), kmsg.NewPtrSASLAuthenticateResponse()
		request.Version, request.SASLAuthBytes = 1, []byte(message)
		if err := w.ask(request, answer); err != nil {
			return "", err
		}
		return string(answer.SASLAuthBytes), kerr.ErrorForCode(answer.ErrorCode)
	})
}

// kind is an error without the addresses that make each its own.
func kind(err error) string {
	var network *net.OpError
	if errors.As(err, &network) {
		return network.Op + ": " + network.Err.Error()
	}
	return err.Error()
}
