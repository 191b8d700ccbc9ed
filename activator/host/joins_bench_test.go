package host

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// holding is an attached host with so many active actors in 64 partitions,
// without app and gateway; what it sends is read and counted.
func holding(b testing.TB, actors int) (*Host, chan tunnel.Message) {
	seen := make(chan tunnel.Message, 1<<16)
	ended := make(chan struct{})
	var ends sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			b.Error(err)
			return
		}
		c := tunnel.New(ws, tunnel.Limits{Message: 1 << 20})
		defer close(ended)
		_ = c.Run(context.Background(), func(m tunnel.Message) { seen <- m })
	}))
	ws, _, err := websocket.Dial(context.Background(), s.URL, nil)
	if err != nil {
		b.Fatal(err)
	}
	h, err := New(Config{Info: runtime.HostInfo{Boot: "b", App: "app"}, Gateway: s.URL, AppURL: "http://127.0.0.1:1"})
	if err != nil {
		b.Fatal(err)
	}
	h.conn = tunnel.New(ws, tunnel.Limits{Message: 1 << 20})
	ends.Go(func() { _ = h.conn.Run(context.Background(), func(tunnel.Message) {}) })
	h.parts.at(63)
	h.beginLease(tunnel.BootTime())
	h.lease = time.Hour
	for i := range actors {
		a := runtime.Actor{App: "app", Type: "Account", ID: fmt.Sprintf("customer-%08d", i)}
		inst := &instance{actor: a, partition: runtime.ActorPartition(a, 64), state: active}
		h.instances[a] = inst
		h.parts.add(inst)
	}
	b.Cleanup(func() {
		h.conn.Close()
		ends.Wait()
		<-ended
		s.Close()
	})
	return h, seen
}

// BenchmarkJoinAsk: for how long the host's mutex is held at a time, and how
// long it takes until the gateway has the answer, with 100,000 instances.
func BenchmarkJoinAsk(b *testing.B) {
	for _, asked := range []int{1, 21, 64} {
		b.Run(fmt.Sprintf("partitions=%d", asked), func(b *testing.B) {
			h, seen := holding(b, 100_000)
			m := &runtime.JoinAsk{}
			for p := range asked {
				m.Epochs = append(m.Epochs, runtime.PartitionEpoch{Partition: uint16(p), Epoch: 1})
			}
			b.ReportAllocs()
			var held time.Duration
			rounds := 0
			for b.Loop() {
				for list := m.Epochs; len(list) > 0; {
					began := time.Now()
					list = h.joinSome(list)
					held += time.Since(began)
					rounds++
				}
				for answered := 0; answered < asked; {
					answered += len((<-seen).(*tunnel.PartJoined).Epochs)
				}
			}
			b.ReportMetric(float64(held.Microseconds())/1000/float64(rounds), "locked-ms/round")
		})
	}
}

// TestJoinOfManyInstances: nothing is left out or said twice between the pieces.
func TestJoinOfManyInstances(t *testing.T) {
	h, seen := holding(t, 30_000)
	m := &runtime.JoinAsk{}
	for p := range 64 {
		m.Epochs = append(m.Epochs, runtime.PartitionEpoch{Partition: uint16(p), Epoch: 1})
	}
	h.joinAsk(m)
	said, answered := map[runtime.Actor]bool{}, map[uint16]bool{}
	for more := true; more || len(answered) < 64; {
		select {
		case m := <-seen:
			j := m.(*tunnel.PartJoined)
			more = j.More
			for _, e := range j.Epochs {
				answered[e.Partition] = true
			}
			for _, a := range j.Instances {
				if said[a] || !answered[runtime.ActorPartition(a, 64)] {
					t.Fatalf("%v twice, or not with its partition", a)
				}
				said[a] = true
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("answered for %d partitions", len(answered))
		}
	}
	if len(said) != 30_000 {
		t.Errorf("%d instances", len(said))
	}
}

// BenchmarkBeatAnswer: what a beat costs the host, flat in what it holds.
func BenchmarkBeatAnswer(b *testing.B) {
	for _, actors := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("instances=%d", actors), func(b *testing.B) {
			h, seen := holding(b, actors)
			b.ReportAllocs()
			for b.Loop() {
				h.mu.Lock()
				h.beat(h.conn)
				seq := h.leaseInfo.seq
				h.mu.Unlock()
				h.kept(&tunnel.BeatAnswer{Seq: seq, Kept: true, Silent: []uint16{3, 9}})
				<-seen
			}
		})
	}
}

// BenchmarkInstances: an actor that comes and goes, beside 100,000.
func BenchmarkInstances(b *testing.B) {
	h, _ := holding(b, 100_000)
	inst := &instance{actor: runtime.Actor{App: "app", Type: "Account", ID: "x"}, partition: 7}
	b.ReportAllocs()
	for b.Loop() {
		h.instances[inst.actor] = inst
		h.parts.add(inst)
		h.remove(inst)
	}
}
