package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/gateway/doors"
)

const doorSecret = "a secret for tests only"

// A pipeListener accepts the ends of pipes, on which time is the test's.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// door serves h as kar gateway does on TCP with a secret; dial is a client's end.
func door(t *testing.T, h http.Handler) (dial func() net.Conn, token string) {
	t.Helper()
	keys, err := doors.New(doors.Config{Secret: doorSecret})
	if err != nil {
		t.Fatal(err)
	}
	if token, err = keys.Token("a", time.Time{}); err != nil {
		t.Fatal(err)
	}
	refuse := func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusUnauthorized)
	}
	server := NewDoor(keys.Guard(h, refuse), slog.New(slog.DiscardHandler))
	server.ConnContext = doors.ConnContext
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	ended := make(chan error)
	go func() {
		ended <- server.Serve(doors.Limit(l, doors.Limits{Connections: 100, PerAddress: 100, Strangers: 100}, slog.New(slog.DiscardHandler)))
	}()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	return func() net.Conn {
		here, there := net.Pipe()
		l.conns <- there
		t.Cleanup(func() { _ = here.Close() })
		return here
	}, token
}

// readsAll is what arrives on a connection until it ends, and how long that took.
func readsAll(c net.Conn) (string, time.Duration) {
	start := time.Now()
	text, _ := io.ReadAll(c)
	return string(text), time.Since(start)
}

// TestBodiesThatNeverCome hold nothing for longer than a body needs.
func TestBodiesThatNeverCome(t *testing.T) {
	head := func(token string) string {
		return "POST /apps/a/kar/v1/service/s/call/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: Bearer " + token + "\r\n\r\nabc"
	}
	read := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "cut", http.StatusBadRequest)
		}
	}
	ignore := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) }
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		token   bool
		status  string
		most    time.Duration
	}{
		"refused":              {read, false, "401", 5 * time.Second},
		"read with a token":    {read, true, "400", time.Minute},
		"ignored with a token": {ignore, true, "404", 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			dial, token := door(t, c.handler)
			if !c.token {
				token = ""
			}
			conn := dial()
			go func() { _, _ = io.WriteString(conn, head(token)) }()
			text, after := readsAll(conn)
			if after > c.most || !strings.HasPrefix(text, "HTTP/1.1 "+c.status) {
				t.Errorf("%s: after %s %q", name, after, text)
			}
		})
	}
}

// TestSlowBodiesArrive: what goes on coming is waited for, and a request waits
// for its outcome as long as that takes.
func TestSlowBodiesArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, token := door(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			time.Sleep(time.Hour)
			if r.Context().Err() != nil {
				t.Error("the request ended while it waited")
			}
			fmt.Fprint(w, len(body), err)
		}))
		conn := dial()
		answers := bufio.NewReader(conn)
		for range 2 { // on one connection
			go func() {
				fmt.Fprintf(conn, "POST /apps/a/x HTTP/1.1\r\nHost: x\r\nKar-Token: %s\r\nContent-Length: %d\r\n\r\n", token, 2<<20)
				for range 64 { // 32 KiB in a second, for a minute
					_, _ = conn.Write(make([]byte, 32<<10))
					time.Sleep(time.Second)
				}
			}()
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := io.ReadAll(resp.Body); string(text) != "2097152 <nil>" {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

// TestAnswersThatNobodyTakes end, with a token as well.
func TestAnswersThatNobodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		returned := make(chan struct{})
		dial, token := door(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			defer close(returned)
			for range 100 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
			t.Error("everything was taken")
		}))
		conn := dial()
		fmt.Fprintf(conn, "GET /apps/a/x HTTP/1.1\r\nHost: x\r\nKar-Token: %s\r\n\r\n", token)
		start := time.Now()
		<-returned
		if after := time.Since(start); after > 2*time.Minute {
			t.Errorf("after %s", after)
		}
	})
}

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := make([]byte, 9, 9+len(payload))
	b[0], b[1], b[2], b[3], b[4] = byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags
	binary.BigEndian.PutUint32(b[5:], stream)
	return append(b, payload...)
}

// TestStreamsOfStrangers: a client that opens many streams and takes no answer
// keeps a few of them, for a moment.
func TestStreamsOfStrangers(t *testing.T) {
	for _, path := range []string{"/kar/status", "/kar/health"} { // refused, and open to all
		synctest.Test(t, func(t *testing.T) {
			dial, _ := door(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") }))
			conn := dial()
			const streams = 200
			go func() {
				var b bytes.Buffer
				b.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
				b.Write(frame(4, 0, 0, []byte{0, 4, 0, 0, 0, 0})) // SETTINGS: the first window is 0
				fields := append([]byte{0x82, 0x86, 0x41, 1, 'x', 0x04, byte(len(path))}, path...)
				for i := range streams {
					b.Write(frame(1, 5, uint32(2*i+1), fields)) // HEADERS, the last frame of its stream
				}
				_, _ = conn.Write(b.Bytes())
			}()
			start, at, ended := time.Now(), []int{}, map[uint32]bool{}
			for len(ended) < streams {
				head := make([]byte, 9)
				if _, err := io.ReadFull(conn, head); err != nil {
					t.Fatalf("after %s and %d streams: %v", time.Since(start), len(ended), err)
				}
				size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
				if _, err := io.CopyN(io.Discard, conn, int64(size)); err != nil {
					t.Fatal(err)
				}
				if head[3] == 3 || head[4]&1 != 0 && head[3] < 2 { // RST_STREAM, or the end
					ended[binary.BigEndian.Uint32(head[5:])] = true
					at = append(at, int(time.Since(start)/time.Second))
				}
				if time.Since(start) > time.Minute {
					t.Fatalf("%d of %d streams ended in a minute", len(ended), streams)
				}
			}
			if at[streams-9] > 0 || at[streams-1] > 15 {
				t.Errorf("%s: ended after %v seconds", path, at)
			}
		})
	}
}

// TestServerLog: what the operator must know is said, what strangers cause is not.
func TestServerLog(t *testing.T) {
	var out bytes.Buffer
	s := NewServer(http.NotFoundHandler(), slog.New(slog.NewTextHandler(&out, nil)))
	s.ErrorLog.Printf("http: TLS handshake error from 127.0.0.1:1: EOF")
	s.ErrorLog.Printf("http2: server connection error")
	if out.Len() > 0 {
		t.Errorf("%s", out.String())
	}
	for _, line := range []string{
		"http: Accept error: accept tcp 127.0.0.1:1: too many open files; retrying in 5ms",
		"http: panic serving 127.0.0.1:1: index out of range\ngoroutine 1",
		"http2: panic serving 127.0.0.1:1: index out of range",
	} {
		out.Reset()
		if s.ErrorLog.Print(line); !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), line[:20]) {
			t.Errorf("%q: %s", line, out.String())
		}
	}
}
