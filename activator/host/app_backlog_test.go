package host

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A fullBacklog says what it is told to.
type fullBacklog struct{ waiting atomic.Int64 }

func (f *fullBacklog) Meet() {}
func (f *fullBacklog) Answers(int) func() (bool, bool) {
	return func() (bool, bool) { return false, false }
}
func (f *fullBacklog) Programs() func() (bool, bool) {
	return func() (bool, bool) { return false, false }
}
func (f *fullBacklog) Backlog() (waiting, most int, known bool) {
	return int(f.waiting.Load()), 5, true
}

// TestFullBacklogGetsNoMoreConnections: requests wait then, and go on over a
// connection that becomes idle or once there is room.
func TestFullBacklogGetsNoMoreConnections(t *testing.T) {
	var dialled atomic.Int64
	entered, leave := make(chan struct{}, 100), make(chan struct{})
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-leave
	}))
	app.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dialled.Add(1)
		}
	}
	app.Start()
	defer app.Close()
	base, err := url.Parse(app.URL)
	if err != nil {
		t.Fatal(err)
	}
	witness := &fullBacklog{}
	c := newHTTP1(base, witness, func(string) {})
	defer c.close()
	var calls sync.WaitGroup
	call := func() {
		calls.Go(func() {
			if o, err := c.do(context.Background(), &appRequest{method: "POST", path: "/", limit: 100}); err != nil || o.Status != 200 {
				t.Error(o, err)
			}
		})
	}
	call()
	<-entered
	witness.waiting.Store(3)
	for range 5 {
		call()
	}
	leave <- struct{}{} // the next uses this connection
	<-entered
	if n := dialled.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	witness.waiting.Store(2)
	for range 4 {
		<-entered // each over one of its own
	}
	close(leave)
	calls.Wait()
	witness.waiting.Store(3)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.mu.Lock()
	for _, conn := range c.idle {
		c.drop(conn)
	}
	c.idle = nil
	c.mu.Unlock()
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := c.do(ctx, &appRequest{method: "POST", path: "/", limit: 100}); err == nil {
		t.Error("it did not wait")
	}
}
