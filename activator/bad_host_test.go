package activator

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// A badHost is the bare end of a stream that says what it likes.
type badHost struct {
	t *testing.T
	c *tunnel.Conn
}

func dialBad(t *testing.T, a *Activator) *badHost {
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := tunnel.New(ws, tunnel.Limits{Message: 16 << 20})
	t.Cleanup(c.Close)
	h := &badHost{t, c}
	if _, ok := h.read().(*tunnel.Welcome); !ok {
		t.Fatal("no welcome")
	}
	return h
}

func (h *badHost) read() tunnel.Message {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := h.c.Read(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *badHost) say(ms ...tunnel.Message) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, m := range ms {
		if err := h.c.Write(ctx, m); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *badHost) closed() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if _, err := h.c.Read(ctx); err != nil {
			if ctx.Err() != nil {
				h.t.Fatal("the stream goes on")
			}
			return
		}
	}
}

func hello(types ...string) *tunnel.Hello {
	return &tunnel.Hello{Protocol: tunnel.Protocol, Info: runtime.HostInfo{Boot: "b", App: "a", Actors: types}}
}

func newBadRig(t *testing.T, o runtime.Owners) *Activator {
	a, err := New(Config{Owners: o, API: http.NotFoundHandler(), Partitions: 4, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// What a join names twice counts once: the owners look at each epoch with all that the host holds.
func TestJoinThatRepeatsItself(t *testing.T) {
	o := newOwners()
	h := dialBad(t, newBadRig(t, o))
	join := &tunnel.Joined{}
	for i := range 300 {
		join.Epochs = append(join.Epochs, runtime.PartitionEpoch{Partition: uint16(i % 2), Epoch: uint64(i)})
		join.Instances = append(join.Instances, runtime.Actor{App: "a", Type: "T", ID: fmt.Sprint(i % 3)})
		join.Running = append(join.Running, runtime.Attempt{Number: uint32(i % 5)})
	}
	h.say(hello("T", "U", "T"), join)
	if info := wait(t, "host", o.ups); len(info.Actors) != 2 {
		t.Errorf("types %q", info.Actors)
	}
	j := wait(t, "join", o.first)
	want := []runtime.PartitionEpoch{{Partition: 0, Epoch: 298}, {Partition: 1, Epoch: 299}}
	if fmt.Sprint(j.Epochs) != fmt.Sprint(want) || len(j.Instances) != 3 || len(j.Running) != 5 {
		t.Errorf("epochs %v, %d instances, %d attempts", j.Epochs, len(j.Instances), len(j.Running))
	}
}

func TestJoinOfPartitionsThatAreNone(t *testing.T) {
	o := newOwners()
	a := newBadRig(t, o)
	wrong := []runtime.PartitionEpoch{{Partition: 65535, Epoch: 1}}
	first := dialBad(t, a)
	first.say(hello(), &tunnel.Joined{Epochs: wrong})
	first.closed()
	later := dialBad(t, a)
	later.say(hello(), &tunnel.Joined{})
	wait(t, "host", o.ups)
	o.send("b", &runtime.JoinAsk{})
	later.say(&tunnel.PartJoined{Joined: tunnel.Joined{Epochs: wrong}})
	later.closed()
	if len(o.joins) != 0 {
		t.Error("the owners heard of it")
	}
}

func TestHostWithTooManyTypes(t *testing.T) {
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprint("T", i)
	}
	for _, types := range [][]string{many, {strings.Repeat("x", 257)}} {
		h := dialBad(t, newBadRig(t, newOwners()))
		h.say(hello(types...))
		if m, ok := h.read().(*tunnel.Refused); !ok || m.Code != runtime.CodeBadRequest {
			t.Errorf("%d types: %+v", len(types), m)
		}
	}
}

// The first change counts at once, the last one in the end; those between are not looked at.
func TestChangesWithoutEnd(t *testing.T) {
	o := newOwners()
	h := dialBad(t, newBadRig(t, o))
	h.say(hello(), &tunnel.Joined{})
	wait(t, "host", o.ups)
	for range 200 {
		h.say(&tunnel.Changed{}) // nothing changes
	}
	for i := range 201 {
		h.say(&tunnel.Changed{Frozen: i%2 == 0})
	}
	told := 0
	for {
		info := wait(t, "change", o.changes)
		if told++; told > 20 {
			t.Fatal("each change is told")
		}
		if info.Frozen && told > 1 {
			break
		}
	}
}

// An answer to a question that nobody asked is not looked at.
func TestUnaskedJoin(t *testing.T) {
	o := newOwners()
	h := dialBad(t, newBadRig(t, o))
	h.say(hello(), &tunnel.Joined{})
	wait(t, "host", o.ups)
	o.send("b", &runtime.JoinAsk{})
	for range 3 {
		h.say(&tunnel.PartJoined{Joined: tunnel.Joined{Epochs: []runtime.PartitionEpoch{{Partition: 1, Epoch: 1}}}})
	}
	h.say(&tunnel.Answer{})
	wait(t, "answer", o.answers) // behind the joins
	if n := len(o.joins); n != 1 {
		t.Errorf("%d joins for one question", n)
	}
}

type panicking struct {
	*owners
	down chan string
}

func (p *panicking) Answered(string, runtime.Answer)         { panic("planted") }
func (p *panicking) LinkDown(boot string, link runtime.Link) { p.down <- boot }

// A message that makes the gateway panic ends the stream, and nothing of it is left.
func TestPanicEndsTheStream(t *testing.T) {
	o := &panicking{newOwners(), make(chan string, 1)}
	a := newBadRig(t, o)
	h := dialBad(t, a)
	h.say(hello(), &tunnel.Joined{})
	wait(t, "host", o.ups)
	h.say(&tunnel.Answer{})
	h.closed()
	wait(t, "end of the link", o.down)
	if n := a.Attached(); n != 0 {
		t.Errorf("%d hosts count as attached", n)
	}
}
