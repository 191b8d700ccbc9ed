package host_test

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

// Frames of HTTP/2, and codes of errors.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway = 0, 1, 3, 4, 6, 7

	protocolError, internalError, refusedStream, calm = 1, 2, 7, 11
)

// An h2app is an app that speaks HTTP/2 by hand. On each connection its script is
// called for each complete request.
type h2app struct {
	t      *testing.T
	l      net.Listener
	script func(c *h2conn, stream uint32, body string)
	wait   sync.WaitGroup
	// settings is what it says first on a connection.
	settings []byte

	mu    sync.Mutex
	open  []net.Conn
	conns int            // that spoke HTTP/2
	got   map[string]int // requests by body; "" for those without
}

type h2conn struct {
	net.Conn
	n       int // from 1
	streams []uint32
}

func newH2App(t *testing.T, script func(c *h2conn, stream uint32, body string)) *h2app {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &h2app{t: t, l: l, script: script, got: map[string]int{}}
	a.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.open = append(a.open, conn)
			a.mu.Unlock()
			a.wait.Go(func() { a.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		a.mu.Lock()
		for _, conn := range a.open {
			_ = conn.Close()
		}
		a.mu.Unlock()
		a.wait.Wait()
	})
	return a
}

func (a *h2app) serve(conn net.Conn) {
	defer conn.Close()
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return // a question whether somebody listens
	}
	a.mu.Lock()
	a.conns++
	c := &h2conn{Conn: conn, n: a.conns}
	a.mu.Unlock()
	c.frame(frameSettings, 0, 0, a.settings)
	bodies := map[uint32]string{}
	for {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		switch {
		case kind == frameSettings && flags&1 == 0:
			c.frame(frameSettings, 1, 0, nil)
		case kind == framePing && flags&1 == 0:
			c.frame(framePing, 1, 0, payload)
		case kind == frameData:
			bodies[stream] += string(payload)
		}
		if (kind == frameData || kind == frameHeaders) && flags&1 != 0 {
			a.mu.Lock()
			a.got[bodies[stream]]++
			a.mu.Unlock()
			c.streams = append(c.streams, stream)
			a.script(c, stream, bodies[stream])
		}
	}
}

func (c *h2conn) frame(kind, flags byte, stream uint32, payload []byte) {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	b = append(binary.BigEndian.AppendUint32(b, stream), payload...)
	_, _ = c.Write(b) // it may have been closed
}

func (c *h2conn) answer(stream uint32) {
	c.frame(frameHeaders, 4, stream, []byte{0x88}) // :status 200
	c.frame(frameData, 1, stream, []byte("done"))
}

func (c *h2conn) reset(stream, code uint32) {
	c.frame(frameReset, 0, stream, binary.BigEndian.AppendUint32(nil, code))
}

func (c *h2conn) goAway(last, code uint32) {
	c.frame(frameGoAway, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), code))
}

// TestStreamsThatTheAppRefuses: what the app has not processed is sent again on
// another connection, what it has taken is waited for, and nothing ends the component.
func TestStreamsThatTheAppRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		bodies []string // of requests that go out together
		script func(c *h2conn, stream uint32, body string)
		want   map[string]int // how often each arrives; nil for what depends on the order
		code   runtime.Code
	}{
		{"GOAWAY between two streams", []string{"a", "b"}, func(c *h2conn, stream uint32, _ string) {
			if c.n > 1 {
				c.answer(stream)
			} else if len(c.streams) == 2 {
				c.goAway(1, 0)
				c.answer(1)
			}
		}, nil, ""},
		{"GOAWAY in two steps", []string{"a", "b"}, func(c *h2conn, stream uint32, _ string) {
			if c.n > 1 {
				c.answer(stream)
			} else if len(c.streams) == 2 {
				c.goAway(1<<31-1, 0)
				c.goAway(1, 0)
				c.answer(1)
			}
		}, nil, ""},
		{"GOAWAY above the stream", []string{"a"}, func(c *h2conn, stream uint32, _ string) {
			c.goAway(stream, 0)
			c.answer(stream)
		}, map[string]int{"a": 1}, ""},
		{"GOAWAY, and the connection is closed", []string{"a"}, func(c *h2conn, stream uint32, _ string) {
			if c.n > 1 {
				c.answer(stream)
				return
			}
			c.goAway(0, 0)
			_ = c.Close()
		}, map[string]int{"a": 2}, ""},
		{"GOAWAY with an error on new connections", []string{"a"}, func(c *h2conn, stream uint32, _ string) {
			if c.n > 3 {
				c.answer(stream)
				return
			}
			c.goAway(0, calm)
		}, map[string]int{"a": 4}, ""},
		{"GOAWAY with an error on each connection", []string{"a"}, func(c *h2conn, _ uint32, _ string) {
			c.goAway(0, protocolError)
		}, map[string]int{"a": 11}, runtime.CodeBadAnswer},
		{"REFUSED_STREAM", []string{"a"}, func(c *h2conn, stream uint32, _ string) {
			if len(c.streams) < 5 {
				c.reset(stream, refusedStream)
				return
			}
			c.answer(stream)
		}, map[string]int{"a": 5}, ""},
		{"REFUSED_STREAM without a body", []string{""}, func(c *h2conn, stream uint32, _ string) {
			if len(c.streams) < 5 {
				c.reset(stream, refusedStream)
				return
			}
			c.answer(stream)
		}, map[string]int{"": 5}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			app := newH2App(t, c.script)
			r := startH2(t, app)
			for n, body := range c.bodies {
				r.owners.send(serviceCall(n+1, "POST", "/x", []byte(body)))
			}
			for range c.bodies {
				a := wait(t, "answer", r.owners.answers)
				if c.code == "" && body(a.Outcome) != "200 done" || c.code != "" && (a.Outcome == nil || a.Outcome.Code != c.code) {
					t.Errorf("got %s, want %s", body(a.Outcome), c.code)
				}
			}
			app.mu.Lock()
			defer app.mu.Unlock()
			if c.want == nil { // one of two was refused once
				if counts := slices.Sorted(maps.Values(app.got)); !slices.Equal(counts, []int{1, 2}) {
					t.Errorf("arrived: %v", app.got)
				}
			} else if !maps.Equal(app.got, c.want) {
				t.Errorf("arrived: %v, want %v", app.got, c.want)
			}
			if len(r.guard.did) > 0 {
				t.Errorf("the component: %s", <-r.guard.did)
			}
		})
	}
}

// TestStreamsThatMayHaveRun: nothing else is sent a second time, and the component
// ends, since nothing else proves that the request has.
func TestStreamsThatMayHaveRun(t *testing.T) {
	for name, script := range map[string]func(c *h2conn, stream uint32){
		"RST_STREAM, INTERNAL_ERROR": func(c *h2conn, stream uint32) { c.reset(stream, internalError) },
		"RST_STREAM, PROTOCOL_ERROR": func(c *h2conn, stream uint32) { c.reset(stream, protocolError) },
		"closed":                     func(c *h2conn, _ uint32) { _ = c.Close() },
		"GOAWAY above, and closed":   func(c *h2conn, stream uint32) { c.goAway(stream, 0); _ = c.Close() },
		"REFUSED_STREAM in an answer": func(c *h2conn, stream uint32) {
			c.frame(frameHeaders, 4, stream, []byte{0x88})
			c.frame(frameData, 0, stream, []byte("do"))
			c.reset(stream, refusedStream)
		},
	} {
		for _, body := range []string{"", "a"} {
			t.Run(strings.TrimSpace(name+" "+body), func(t *testing.T) {
				app := newH2App(t, func(c *h2conn, stream uint32, _ string) { script(c, stream) })
				r := startH2(t, app)
				r.owners.send(serviceCall(1, "POST", "/x", []byte(body)))
				if did := wait(t, "guard", r.guard.did); did != "kill" {
					t.Error(did)
				}
				app.mu.Lock()
				defer app.mu.Unlock()
				if app.got[body] != 1 {
					t.Errorf("arrived %d times", app.got[body])
				}
			})
		}
	}
}

// TestConnectionsAreShared: many requests at once need few connections.
func TestConnectionsAreShared(t *testing.T) {
	var mu sync.Mutex
	var held []func()
	app := newH2App(t, nil)
	app.script = func(c *h2conn, stream uint32, _ string) {
		mu.Lock()
		defer mu.Unlock()
		if held = append(held, func() { c.answer(stream) }); len(held) == 50 {
			for _, answer := range held {
				answer()
			}
		}
	}
	r := startH2(t, app)
	for n := range 50 {
		r.owners.send(serviceCall(n+1, "POST", "/x", []byte("a")))
	}
	for range 50 {
		if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "200 done" {
			t.Error(body(a.Outcome))
		}
	}
	app.mu.Lock()
	defer app.mu.Unlock()
	if app.conns > 2 {
		t.Errorf("%d connections", app.conns)
	}
}

// TestRequestThatCannotBeSent: a head that is larger than the app allows is the
// fault of its request.
func TestRequestThatCannotBeSent(t *testing.T) {
	app := newH2App(t, func(c *h2conn, stream uint32, _ string) { c.answer(stream) })
	app.settings = []byte{0, 6, 0, 0, 4, 0} // SETTINGS_MAX_HEADER_LIST_SIZE is 1,024
	r := startH2(t, app)
	for n, want := range []runtime.Code{"", runtime.CodeBadRequest, ""} {
		m := serviceCall(n+1, "POST", "/x", []byte("a"))
		if want != "" {
			m.Header["X-Long"] = []string{strings.Repeat("x", 2000)}
		}
		r.owners.send(m)
		if a := wait(t, "answer", r.owners.answers); a.Outcome == nil || a.Outcome.Code != want {
			t.Errorf("%d: got %s", n, body(a.Outcome))
		}
	}
	if len(r.guard.did) > 0 {
		t.Errorf("the component: %s", <-r.guard.did)
	}
}

func startH2(t *testing.T, app *h2app) *rig {
	r := start(t, nil, func(_ *rig, _ *activator.Config, c *host.Config) {
		c.AppURL, c.H2C, c.Info.Actors = "http://"+app.l.Addr().String(), true, nil
	})
	wait(t, "join", r.owners.ups)
	return r
}
