package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// A verdict is what the error of a request over HTTP/2 proves.
type verdict int

const (
	mayHaveRun   verdict = iota // or there is no error
	notRun                      // the app has not processed it, nor will it
	turnedAway                  // the same, and the app has called the connection bad from its first stream
	cannotBeSent                // on no connection
)

// The errors of net/http that have no type.
const (
	gotGoAway   = "http2: Transport received Server's graceful shutdown GOAWAY"
	gotBadFirst = "http2: Transport received GOAWAY from server"
	notUsable   = "http2: client conn not usable"
)

// A streamError is how net/http lets its own be found.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error // not nil when the app has sent it
}

func (e streamError) Error() string { return fmt.Sprint("stream error ", e.Code) }

const refusedStream = 7

// judge: what was not sent has not run, nor has a stream that the app refuses
// (RFC 9113, 8.7) or that is higher than the last of its GOAWAY (6.8). A stream up
// to that one is answered, or breaks with its connection. Sent tells that the head
// of the request was written; broken, that the connection has ended.
func judge(err error, sent, broken bool) verdict {
	var stream streamError
	switch text := err.Error(); {
	case errors.As(err, &stream) && stream.Code == refusedStream && stream.Cause != nil, text == gotGoAway:
		return notRun
	case strings.HasPrefix(text, gotBadFirst):
		return turnedAway
	case sent:
		return mayHaveRun
	case broken || text == notUsable:
		return notRun
	}
	return cannotBeSent
}

// mostTurned is how often a request is sent again to an app that calls each new
// connection bad: the request itself may be why.
const mostTurned = 10

// resends paces what is sent again.
type resends struct {
	warn        func(string)
	began, told time.Time
	wait        time.Duration
	turned      int
}

// pause does not wait the first time, when another connection is all that it takes,
// and then from 5 ms growing to 50 ms; false when ctx ends.
func (s *resends) pause(ctx context.Context, v verdict, cause error) bool {
	if v == turnedAway {
		s.turned++
	}
	now := time.Now()
	if s.began.IsZero() {
		s.began, s.told = now, now
		return true
	}
	if now.Sub(s.told) > 10*time.Second {
		s.told = now
		s.warn(fmt.Sprintf("the app has refused a request for %s: %v", now.Sub(s.began).Round(time.Second), cause))
	}
	s.wait = min(max(s.wait*3/2, 5*time.Millisecond), 50*time.Millisecond)
	return sleep(ctx, s.wait)
}

// A hearing connection reports a failed write only when all was read that had come
// before: a GOAWAY tells more than that the connection is gone.
type hearing struct {
	net.Conn
	once sync.Once
	over chan struct{} // closed when nothing more can be read
}

// hearLimit bounds that; beyond it the connection counts as broken, which costs no
// more than time.
const hearLimit = 100 * time.Millisecond

func dialToHear(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &hearing{Conn: conn, over: make(chan struct{})}, nil
}

func (h *hearing) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if err != nil {
		h.once.Do(func() { close(h.over) })
	}
	return n, err
}

func (h *hearing) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	if err != nil {
		select {
		case <-h.over:
		case <-time.After(hearLimit):
		}
	}
	return n, err
}
