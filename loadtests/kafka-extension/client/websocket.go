package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"
)

// Requests beyond it are sent in several frames. The library's default, 4 KiB, would be most of what is measured.
const largestFrame = 256 << 10

// dialer connects to one URL, whichever broker is asked for: behind a WebSocket all of them are one.
type dialer struct {
	url    string
	secure *tls.Config
}

func (d dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	open := websocket.Dialer{TLSClientConfig: d.secure, HandshakeTimeout: 10 * time.Second, WriteBufferSize: largestFrame}
	socket, answer, err := open.DialContext(ctx, d.url, nil)
	if err != nil && answer != nil {
		return nil, fmt.Errorf("%s: %w (%s)", d.url, err, answer.Status)
	}
	if err != nil {
		return nil, err
	}
	return &stream{Conn: socket}, nil
}

// stream is a WebSocket as a stream of bytes: the boundaries of its messages mean nothing.
type stream struct {
	*websocket.Conn
	message io.Reader // what is left of the message that is being read
}

func (s *stream) Read(into []byte) (int, error) {
	for {
		if s.message == nil {
			kind, message, err := s.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("a message of kind %d: only binary ones are Kafka", kind)
			}
			s.message = message
		}
		n, err := s.message.Read(into)
		if err == io.EOF {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *stream) Write(bytes []byte) (int, error) {
	if err := s.WriteMessage(websocket.BinaryMessage, bytes); err != nil {
		return 0, err
	}
	return len(bytes), nil
}

func (s *stream) SetDeadline(at time.Time) error {
	if err := s.SetReadDeadline(at); err != nil {
		return err
	}
	return s.SetWriteDeadline(at)
}
