package activator

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// attachBare joins as a host that does nothing and hands over what comes.
func attachBare(t *testing.T, a *Activator, boot string) <-chan tunnel.Message {
	_, seen := attachConn(t, a, boot)
	return seen
}

// attachConn is the same for a host that says something of its own, once it is up.
func attachConn(t *testing.T, a *Activator, boot string) (*tunnel.Conn, <-chan tunnel.Message) {
	s := httptest.NewServer(a)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := tunnel.New(ws, tunnel.Limits{Message: 16 << 20})
	if _, err := c.Read(ctx); err != nil {
		t.Fatal(err)
	}
	hello := &tunnel.Hello{Protocol: tunnel.Protocol, Info: runtime.HostInfo{Boot: boot, App: "a"}}
	messages := []tunnel.Message{hello}
	running := make([]runtime.Attempt, 5000)
	for i := range running {
		running[i].Number = uint32(i)
	}
	for _, piece := range (&tunnel.Joined{Running: running}).Pieces() {
		messages = append(messages, piece)
	}
	for _, m := range messages {
		if err := c.Write(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	seen, ended := make(chan tunnel.Message, 1000), make(chan struct{})
	go func() {
		_ = c.Run(context.Background(), func(m tunnel.Message) {
			if _, up := m.(*tunnel.Up); !up {
				seen <- m
			}
		})
		close(ended)
	}()
	t.Cleanup(func() { c.Close(); <-ended; s.Close() })
	return c, seen
}

// TestQuestionsDoNotOvertakeInvocations: a large one that arrived after the join
// which does not know it, or after the host was told to forget it, would run twice.
func TestQuestionsDoNotOvertakeInvocations(t *testing.T) {
	o := newOwners()
	a, err := New(Config{Owners: o, API: http.NotFoundHandler(), BodyLimit: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	seen := attachBare(t, a, "b")
	wait(t, "host", o.ups)
	large := invoke(1, "POST", "/", string(make([]byte, 8<<20)))
	for range 20 {
		o.send("b", large)
		o.send("b", &runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: 1, Epoch: 1}}})
		o.send("b", &runtime.Taken{Attempts: []runtime.Attempt{large.Attempt}})
		arrived := false
		for n := 0; n < 3; {
			switch m := wait(t, "message", seen).(type) {
			case *runtime.Invoke:
				arrived = true
				n++
			case *runtime.JoinAsk, *runtime.Taken:
				if !arrived {
					t.Fatalf("%T came before the invocation", m)
				}
				n++
			}
		}
	}
}

// TestJoinInPieces: what a host holds need not fit into one message.
func TestJoinInPieces(t *testing.T) {
	o := newOwners()
	a, err := New(Config{Owners: o, API: http.NotFoundHandler(), BodyLimit: 1 << 10, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	attachBare(t, a, "b")
	wait(t, "host", o.ups)
	if j := wait(t, "join", o.first); len(j.Running) != 5000 || j.Epochs == nil {
		t.Errorf("%d attempts, epochs %v", len(j.Running), j.Epochs)
	}
}

// TestHostReachesNoOtherApp: a path is below the host's own app or it is refused,
// however it begins, and the API is told whose host asks.
func TestHostReachesNoOtherApp(t *testing.T) {
	o := newOwners()
	asked := make(chan string, 100)
	a, err := New(Config{Owners: o, API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.EscapedPath() + " by " + runtime.CallerOf(r.Context()).App
		w.WriteHeader(http.StatusTeapot)
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	c, seen := attachConn(t, a, "b")
	wait(t, "host", o.ups)
	for i, path := range []string{"-prod/kar/v1/purge", "%2Fx/kar/v1/purge", "", "/../b/kar/v1/purge", "//kar/v1/purge", "/kar/v1", "/kar/attach", "?/kar/v1/"} {
		c.Send(&tunnel.Request{Seq: uint64(i + 1), Method: "POST", Path: path})
		if m := wait(t, "response", seen).(*tunnel.Response); m.Status != http.StatusNotFound {
			t.Errorf("%q: status %d", path, m.Status)
		}
	}
	c.Send(&tunnel.Request{Seq: 100, Method: "GET", Path: "/kar/v1/missing"})
	if m := wait(t, "response", seen).(*tunnel.Response); m.Status != http.StatusTeapot {
		t.Errorf("status %d", m.Status)
	}
	if got := wait(t, "request", asked); got != "/apps/a/kar/v1/missing by a" {
		t.Errorf("the API was asked for %s", got)
	}
	select {
	case got := <-asked:
		t.Errorf("the API was asked for %s", got)
	default:
	}
}

// slowBeats answers a beat only when it is told to, with a loss.
type slowBeats struct {
	*owners
	begun, answer chan struct{}
}

func (o *slowBeats) Beat(string) (silent []uint16, lost bool) {
	close(o.begun)
	<-o.answer
	return nil, true
}

// A host that has reported its end is not counted lost by a beat that was under way.
func TestNoVerdictAfterAnExit(t *testing.T) {
	o := &slowBeats{newOwners(), make(chan struct{}), make(chan struct{})}
	h := dialBad(t, newBadRig(t, o))
	h.say(hello(), &tunnel.Joined{})
	wait(t, "host", o.ups)
	h.read() // up
	h.say(&tunnel.Beat{Seq: 1})
	wait(t, "beat", o.begun)
	h.say(&tunnel.Exit{Reason: "the process exited"})
	wait(t, "exit", o.downs)
	h.read() // it is taken
	close(o.answer)
	o.mu.Lock()
	l := o.links["b"].(*link)
	o.mu.Unlock()
	l.requests.Wait()
	l.Send(&runtime.Taken{})
	m := h.read()
	if _, ok := m.(*runtime.Taken); !ok {
		t.Errorf("after its end the host was told %T %v", m, m)
	}
}
