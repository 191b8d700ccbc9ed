package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// pair is both ends of a stream over a real socket, which is returned, too.
func pair(t testing.TB, a, b Limits) (server, client *Conn, raw net.Conn) {
	ends := make(chan *Conn, 1)
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
		if err != nil {
			t.Error(err)
			return
		}
		ends <- New(ws, a)
		<-done
	}))
	var sock net.Conn
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		sock = c
		return c, err
	}}
	ws, _, err := websocket.Dial(context.Background(), s.URL, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	client, server = New(ws, b), <-ends
	t.Cleanup(func() {
		client.Close()
		server.Close()
		close(done)
		s.Close()
	})
	return server, client, sock
}

func serve(t testing.TB, c *Conn, handle func(Message)) <-chan error {
	out, ended := make(chan error, 1), make(chan struct{})
	go func() { out <- c.Run(context.Background(), handle); close(ended) }()
	t.Cleanup(func() { c.Close(); <-ended })
	return out
}

func TestSmallMessagesKeepTheirOrderBesideLargeOnes(t *testing.T) {
	server, client, _ := pair(t, Limits{Message: 8 << 20}, Limits{Message: 8 << 20})
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<15)
	seen := make(chan Message, 2000)
	serve(t, server, func(m Message) { seen <- m })
	serve(t, client, func(Message) {})
	for i := range 24 { // more than share the stream at a time
		client.Send(&Request{Seq: uint64(i), Body: big})
		for j := range 10 {
			client.Send(&Beat{Seq: uint64(i*10 + j)})
		}
	}
	next, large := uint64(0), map[uint64]bool{}
	for range 264 {
		select {
		case m := <-seen:
			switch m := m.(type) {
			case *Beat:
				if m.Seq != next {
					t.Fatalf("beat %d, want %d", m.Seq, next)
				}
				next++
			case *Request:
				if large[m.Seq] || !bytes.Equal(m.Body, big) {
					t.Fatalf("large message %d is wrong", m.Seq)
				}
				large[m.Seq] = true
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%d small, %d large arrived", next, len(large))
		}
	}
	if next != 240 || len(large) != 24 {
		t.Fatalf("%d small, %d large arrived", next, len(large))
	}
}

func TestSlowReaderBreaksTheStreamAtTheQueueLimit(t *testing.T) {
	server, _, _ := pair(t, Limits{Message: 1 << 20, Queue: 1 << 20}, Limits{Message: 1 << 20})
	ran := serve(t, server, func(Message) {})
	body := make([]byte, 32<<10)
	sent := 0
	for ; server.Err() == nil && sent < 10000; sent++ {
		server.Send(&Request{Body: body})
	}
	if err := <-ran; !errors.Is(err, errQueueFull) {
		t.Fatal(err)
	}
	if total := sent * len(body); total > 32<<20 {
		t.Fatalf("%d bytes were queued before the stream broke", total)
	}
	server.Send(&Beat{}) // nothing happens
}

func TestStalledWriteBreaksTheStream(t *testing.T) {
	server, _, _ := pair(t, Limits{Message: 1 << 20, Stall: 100 * time.Millisecond}, Limits{Message: 1 << 20})
	ran := serve(t, server, func(Message) {})
	for range 1000 {
		server.Send(&Request{Body: make([]byte, 32<<10)})
	}
	if err := <-ran; !errors.Is(err, errStalled) {
		t.Fatal(err)
	}
}

func TestSilenceBreaksTheStream(t *testing.T) {
	server, _, _ := pair(t, Limits{Message: 1 << 20, Silence: 100 * time.Millisecond}, Limits{Message: 1 << 20})
	ran := serve(t, server, func(Message) {})
	if err := <-ran; !errors.Is(err, errSilent) {
		t.Fatal(err)
	}
}

func TestOverlargeMessageIsRefused(t *testing.T) {
	server, client, _ := pair(t, Limits{Message: 1 << 20}, Limits{})
	ran := serve(t, server, func(Message) {})
	serve(t, client, func(Message) {})
	client.Send(&Request{Body: make([]byte, 2<<20)})
	if err := <-ran; err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Fatal(err)
	}
}

func TestFlushWaitsForTheLastByte(t *testing.T) {
	server, client, _ := pair(t, Limits{Message: 8 << 20}, Limits{})
	got := make(chan int, 10)
	serve(t, server, func(m Message) { got <- len(m.(*Request).Body) })
	serve(t, client, func(Message) {})
	client.Send(&Request{Body: make([]byte, 4<<20)})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 4<<20 {
		t.Fatal(n)
	}
}

// FuzzFrames: whatever bytes come as frames, reading ends without a panic and
// holds no more than the limits.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{3, 9, 2, 5})
	f.Add([]byte{5, kindFirstPiece, 1, 3, 9, 2, 4, kindPiece, 1, 5, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Conn{limits: Limits{Message: 1 << 16}, parts: map[uint64]*partial{}, in: bufio.NewReader(bytes.NewReader(b)), frames: bytes.NewReader(nil)}
		for c.in.Buffered() > 0 || peek(c.in) {
			frame, err := c.frame()
			if err != nil {
				return
			}
			whole, err := c.join(frame)
			if err != nil {
				return
			}
			if len(c.parts) > inFlight || len(whole) > maxFrame+(1<<16) {
				t.Fatal("more is held than the limits allow")
			}
			if whole != nil {
				_, _ = decode(whole)
			}
		}
	})
}

func peek(r *bufio.Reader) bool { _, err := r.Peek(1); return err == nil }

// BenchmarkStream is the cost of the wire alone: one message each way, and the
// CPU of both ends.
func BenchmarkStream(b *testing.B) {
	for _, flight := range []int{1, 128} {
		b.Run(map[int]string{1: "one", 128: "128-in-flight"}[flight], func(b *testing.B) {
			server, client, _ := pair(b, Limits{Message: 1 << 20}, Limits{Message: 1 << 20})
			back := make(chan struct{}, flight)
			serve(b, server, func(m Message) { server.Send(&Response{Seq: m.(*Request).Seq, Body: m.(*Request).Body}) })
			serve(b, client, func(Message) { back <- struct{}{} })
			body := make([]byte, 200)
			b.ReportAllocs()
			b.ResetTimer()
			for range flight {
				back <- struct{}{}
			}
			for range b.N {
				<-back
				client.Send(&Request{Path: "/x", Body: body})
			}
			for range flight {
				<-back
			}
		})
	}
}

// TestSendLastOvertakesNothing: a question about what came before must not
// arrive before it.
func TestSendLastOvertakesNothing(t *testing.T) {
	server, client, _ := pair(t, Limits{Message: 8 << 20}, Limits{Message: 8 << 20})
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<15)
	seen := make(chan Message, 100)
	serve(t, server, func(m Message) { seen <- m })
	for i := range 20 { // more than share the stream at a time
		client.Send(&Request{Seq: uint64(i), Body: big})
	}
	client.SendLast(&Exit{Reason: "first"})
	client.Send(&Request{Seq: 20, Body: big})
	client.SendLast(&Exit{Reason: "second"})
	client.Send(&Beat{Seq: 1})
	serve(t, client, func(Message) {})
	large, beat := 0, false
	var order []string
	for range 24 {
		select {
		case m := <-seen:
			switch m := m.(type) {
			case *Request:
				large++
			case *Beat:
				beat = true
			case *Exit:
				if least := map[string]int{"first": 20, "second": 21}[m.Reason]; large < least {
					t.Errorf("%s after %d large messages, want %d", m.Reason, large, least)
				}
				order = append(order, m.Reason)
			}
			if len(order) > 0 && !beat {
				t.Error("others had to wait for it")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("messages are missing")
		}
	}
	if strings.Join(order, " ") != "first second" {
		t.Errorf("got %v", order)
	}
	// With nothing before it, it goes at once.
	client.SendLast(&Exit{Reason: "third"})
	select {
	case <-seen:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not go")
	}
}

// Whoever announces large messages and sends nothing of them takes no memory.
func TestMemoryComesWithTheBytes(t *testing.T) {
	c, _, _ := pair(t, Limits{Message: 64 << 20}, Limits{})
	for id := range uint64(inFlight) {
		frame := binary.AppendUvarint([]byte{kindFirstPiece}, id+1)
		frame = append(binary.AppendUvarint(frame, 64<<20), 'x')
		if _, err := c.join(frame); err != nil {
			t.Fatal(err)
		}
	}
	held := 0
	for _, p := range c.parts {
		held += cap(p.data)
	}
	if held > 4<<20 {
		t.Errorf("%d bytes are held for %d that came", held, inFlight)
	}
}
