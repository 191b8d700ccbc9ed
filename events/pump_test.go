package events

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
	"github.com/karmesh/kar/runtime/engine"
)

// A bench is a mesh on a folder with a pump, and a host that notes what it is asked.
type bench struct {
	t    *testing.T
	dir  string
	boot string
	disk *embedded.Disk
	mesh *engine.Mesh
	stop context.CancelFunc
	ran  sync.WaitGroup
	// holes are the topics as the pump sees them; nil for as they are.
	holes  func(runtime.Topics) runtime.Topics
	logger *slog.Logger

	mu   sync.Mutex
	got  map[string][]string // by path and actor id: the bodies, in order
	news chan struct{}
}

func newBench(t *testing.T) *bench {
	return newBenchWith(t, nil, slog.New(slog.DiscardHandler))
}

func newBenchWith(t *testing.T, holes func(runtime.Topics) runtime.Topics, logger *slog.Logger) *bench {
	b := &bench{t: t, dir: t.TempDir(), holes: holes, logger: logger, got: map[string][]string{}, news: make(chan struct{}, 1)}
	b.start("boot1")
	t.Cleanup(b.end)
	return b
}

func (b *bench) start(boot string) {
	b.t.Helper()
	d, err := embedded.Open(b.dir, embedded.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	topics := d.Topics()
	if b.holes != nil {
		topics = b.holes(topics)
	}
	m, err := engine.Open(b.t.Context(), engine.Config{Mesh: "local", Node: boot, Logs: d.Log, Store: d.Store(), Topics: topics})
	if err != nil {
		b.t.Fatal(err)
	}
	b.disk, b.mesh, b.boot = d, m, boot
	if err := m.HostUp(runtime.HostInfo{Boot: boot, App: "app", Actors: []string{"A"}}, runtime.JoinAnswer{}, b); err != nil {
		b.t.Fatal(err)
	}
	p, err := New(Config{Mesh: m, Topics: topics, Logger: b.logger})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	b.stop = cancel
	b.ran.Go(func() {
		if err := p.Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
}

func (b *bench) end() {
	b.stop()
	b.ran.Wait()
	_ = b.mesh.Close()
	_ = b.disk.Close()
}

// Send is the link of the bench's own host.
func (b *bench) Send(m runtime.HostMessage) { boot{b, b.boot}.Send(m) }

// A boot is the link of a host: each invocation is noted and answered.
type boot struct {
	*bench
	name string
}

func (b boot) Send(m runtime.HostMessage) {
	switch m := m.(type) {
	case *runtime.Invoke:
		b.mu.Lock()
		key := m.Path + " " + m.Target.ID
		b.got[key] = append(b.got[key], string(m.Body))
		b.mu.Unlock()
		select {
		case b.news <- struct{}{}:
		default:
		}
		mesh := b.mesh
		go mesh.Answered(b.name, runtime.Answer{Attempt: m.Attempt, Outcome: &runtime.Outcome{Status: 204}})
	case *runtime.Deactivate:
		b.mesh.Deactivated(b.name, *m)
	}
}

func (b *bench) subscribe(id, topic string, oldest bool) runtime.Actor {
	b.t.Helper()
	a := runtime.Actor{App: "app", Type: "A", ID: id}
	s := runtime.Subscription{Actor: a, ID: "s", Path: "/on", Topic: topic, ContentType: "application/json", Oldest: oldest}
	if _, err := b.mesh.Subscribe(b.t.Context(), runtime.Caller{}, s); err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *bench) publish(topic string, from, to int) {
	b.t.Helper()
	for i := from; i < to; i++ {
		if _, err := b.disk.Topics().Publish(b.t.Context(), topic, runtime.Event{Body: fmt.Append(nil, i)}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) create(topic string) {
	b.t.Helper()
	if _, err := b.disk.Topics().Create(b.t.Context(), topic); err != nil {
		b.t.Fatal(err)
	}
}

// want waits until the actor has been told exactly the events from from to to, in order.
func (b *bench) want(id string, from, to int) {
	b.t.Helper()
	var want []string
	for i := from; i < to; i++ {
		want = append(want, fmt.Sprintf("[%d]", i))
	}
	deadline := time.After(15 * time.Second)
	for {
		b.mu.Lock()
		got := append([]string(nil), b.got["/on "+id]...)
		b.mu.Unlock()
		if len(got) >= len(want) {
			if strings.Join(got, " ") != strings.Join(want, " ") {
				b.t.Fatalf("actor %s got %v, want %v", id, got, want)
			}
			return
		}
		select {
		case <-b.news:
		case <-deadline:
			b.t.Fatalf("actor %s got %d events, want %d: %v", id, len(got), len(want), got)
		}
	}
}

// settled waits until the outcome of everything accepted is durable.
func (b *bench) settled() {
	b.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); b.mesh.Stats().Pending > 0; {
		if time.Now().After(deadline) {
			b.t.Fatalf("still open: %+v", b.mesh.Stats())
		}
	}
}

func TestEachSubscriptionGetsEachEventInOrder(t *testing.T) {
	b := newBench(t)
	b.create("t")
	b.publish("t", 0, 3)
	b.subscribe("late", "t", false)
	b.subscribe("old", "t", true)
	b.publish("t", 3, 250)
	b.want("old", 0, 250)
	b.want("late", 3, 250)
}

// A group belongs to its app: two apps with one name for it get each event, what
// one does moves nothing of the other, and members of one app share.
func TestGroupsOfTwoApps(t *testing.T) {
	b := newBench(t)
	if err := b.mesh.HostUp(runtime.HostInfo{Boot: "other1", App: "other", Actors: []string{"A"}}, runtime.JoinAnswer{}, boot{b, "other1"}); err != nil {
		t.Fatal(err)
	}
	b.create("t")
	b.publish("t", 0, 3)
	join := func(app, id string, oldest bool) runtime.Actor {
		s := runtime.Subscription{Actor: runtime.Actor{App: app, Type: "A", ID: id}, ID: "s", Path: "/on", Topic: "t", Group: "g", Oldest: oldest}
		if _, err := b.mesh.Subscribe(t.Context(), runtime.Caller{}, s); err != nil {
			t.Fatal(err)
		}
		return s.Actor
	}
	mine, theirs := join("app", "mine", false), join("other", "theirs", true)
	b.publish("t", 3, 40)
	b.want("mine", 3, 40)
	b.want("theirs", 0, 40)
	if n, err := b.mesh.Unsubscribe(t.Context(), runtime.Caller{}, mine, "s"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	b.publish("t", 40, 60)
	b.want("theirs", 0, 60)
	join("app", "again", true)
	b.want("again", 0, 60)
	if err := b.mesh.Purge(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	b.publish("t", 60, 70)
	b.want("theirs", 0, 70)
	if n, err := b.mesh.Unsubscribe(t.Context(), runtime.Caller{}, theirs, "s"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
}

func TestGoesOnAfterRestart(t *testing.T) {
	b := newBench(t)
	b.create("t")
	b.subscribe("a", "t", false)
	b.publish("t", 0, 20)
	b.want("a", 0, 20)
	b.settled() // an event whose answer is not durable yet would be told again
	b.end()
	b.start("boot2")
	b.mesh.HostDown("boot1", "exited") // nobody else can say so here
	b.publish("t", 20, 40)
	b.want("a", 0, 40)
}

func TestUnsubscribeAndSubscribeAgain(t *testing.T) {
	b := newBench(t)
	b.create("t")
	at := 0
	for round := range 10 {
		a := b.subscribe("a", "t", false)
		b.publish("t", at, at+5)
		b.want("a", 0, at+5)
		at += 5
		if round%2 == 0 {
			if n, err := b.mesh.Unsubscribe(t.Context(), runtime.Caller{}, a, "s"); err != nil || n != 1 {
				t.Fatal(n, err)
			}
		}
	}
}

func TestTopicDeletedAndCreatedAgain(t *testing.T) {
	b := newBench(t)
	b.create("t")
	b.subscribe("a", "t", false)
	b.publish("t", 0, 5)
	b.want("a", 0, 5)
	if existed, err := b.disk.Topics().Delete(t.Context(), "t"); err != nil || !existed {
		t.Fatal(existed, err)
	}
	b.create("t")
	b.publish("t", 5, 10)
	b.want("a", 0, 10)
}

func TestOldestAgainStartsOver(t *testing.T) {
	b := newBench(t)
	b.create("t")
	a := b.subscribe("a", "t", true)
	b.publish("t", 0, 5)
	b.want("a", 0, 5)
	if _, err := b.mesh.Unsubscribe(t.Context(), runtime.Caller{}, a, "s"); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.got = map[string][]string{}
	b.mu.Unlock()
	b.subscribe("a", "t", true)
	b.want("a", 0, 5)
}

// counted counts the questions after topics.
type counted struct {
	runtime.Topics
	fetches, looks atomic.Int64
	looked         chan int // how many names were asked for
}

func (c *counted) Fetch(ctx context.Context, topic string, offset int64, limit int) (runtime.Fetched, error) {
	c.fetches.Add(1)
	return c.Topics.Fetch(ctx, topic, offset, limit)
}

func (c *counted) Existing(ctx context.Context, topics []string) ([]string, error) {
	c.looks.Add(1)
	select {
	case c.looked <- len(topics):
	case <-ctx.Done():
	}
	return c.Topics.Existing(ctx, topics)
}

// However many wait for topics that do not exist, there is one question at a time, and
// each goes on when its topic is there.
func TestMissingTopicsAreLookedForTogether(t *testing.T) {
	const many = 100
	c := &counted{looked: make(chan int)}
	b := newBenchWith(t, func(t runtime.Topics) runtime.Topics { c.Topics = t; return c }, slog.New(slog.DiscardHandler))
	for i := range many {
		b.subscribe(fmt.Sprint(i), fmt.Sprint("t", i), true)
	}
	a := b.subscribe("gone", "u", true)
	for all := 0; all < 3; {
		select {
		case n := <-c.looked:
			if n == many+1 {
				all++
			}
		case <-time.After(15 * time.Second):
			t.Fatal("nobody looks for all of them")
		}
	}
	if n := c.fetches.Load(); n != many+1 {
		t.Errorf("%d fetches by %d groups of topics that do not exist", n, many+1)
	}
	if n, err := b.mesh.Unsubscribe(t.Context(), runtime.Caller{}, a, "s"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	go func() {
		for range c.looked { // it goes on looking
		}
	}()
	b.create("t7")
	b.publish("t7", 0, 5)
	b.want("7", 0, 5)
	if n := c.fetches.Load(); n > many+20 {
		t.Errorf("%d fetches when one was created", n)
	}
	b.end()
	b.start("boot2")
	b.create("t8")
	b.publish("t8", 0, 5)
	b.mesh.HostDown("boot1", "exited")
	b.want("8", 0, 5)
}

// halves are topics in which every other offset holds no event, as between the
// marks of transactions, and which lose their first events.
type halves struct {
	runtime.Topics
	lost atomic.Int64
}

func (h *halves) Fetch(ctx context.Context, topic string, offset int64, limit int) (runtime.Fetched, error) {
	lost := h.lost.Load()
	got, err := h.Topics.Fetch(ctx, topic, max((offset+1)/2, lost), limit)
	for i := range got.Events {
		got.Events[i].Offset *= 2
	}
	if got.Next *= 2; offset < 2*lost {
		got.Missing = &runtime.Gap{From: offset, To: 2 * lost}
	}
	return got, err
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// A gap is what lay in front of the topic's begin; an offset without an event is none.
// Where a follower begins nobody knows whether what is gone was an event.
func TestGapsAreWhatTheTopicHasLost(t *testing.T) {
	for lost, want := range map[int64]string{0: "", 3: "from=0 to=5"} {
		h, log := &halves{}, &lines{}
		b := newBenchWith(t, func(t runtime.Topics) runtime.Topics { h.Topics = t; return h }, slog.New(slog.NewTextHandler(log, nil)))
		b.create("t")
		h.lost.Store(lost) // before anybody waits for what is lost
		b.subscribe("a", "t", false)
		b.publish("t", 0, int(lost))
		for i := int(lost); i < 10; i++ { // one by one, so that each begins behind an offset without an event
			b.publish("t", i, i+1)
			b.want("a", int(lost), i+1)
		}
		b.end()
		said := strings.Count(log.b.String(), "events may be missing")
		if want == "" && said > 0 || want != "" && (said != 1 || !strings.Contains(log.b.String(), want)) {
			t.Errorf("%d lost: %s", lost, log.b.String())
		}
	}
}

// What was looked at and held no event is not missing when the topic loses it.
func TestWhatWasLookedAtIsNotMissing(t *testing.T) {
	h, log := &halves{}, &lines{}
	b := newBenchWith(t, func(t runtime.Topics) runtime.Topics { h.Topics = t; return h }, slog.New(slog.NewTextHandler(log, nil)))
	b.create("t")
	b.subscribe("a", "t", false)
	b.publish("t", 0, 2) // 0 and 2; the topic was looked at up to 4
	b.want("a", 0, 2)
	h.lost.Store(2)
	b.publish("t", 2, 3)
	b.want("a", 0, 3)
	if said := log.b.String(); strings.Contains(said, "missing") {
		t.Errorf("nothing is missing: %s", said)
	}
}

// ended are topics that have lost their end once.
type ended struct {
	runtime.Topics
	lost atomic.Bool
}

func (e *ended) Fetch(ctx context.Context, topic string, offset int64, limit int) (runtime.Fetched, error) {
	if e.lost.CompareAndSwap(true, false) {
		return runtime.Fetched{Next: offset, Missing: &runtime.Gap{From: offset - 3, To: offset, End: true}}, nil
	}
	return e.Topics.Fetch(ctx, topic, offset, limit)
}

func TestLostEndIsSaid(t *testing.T) {
	e, log := &ended{}, &lines{}
	b := newBenchWith(t, func(t runtime.Topics) runtime.Topics { e.Topics = t; return e }, slog.New(slog.NewTextHandler(log, nil)))
	b.create("t")
	b.subscribe("a", "t", false)
	b.publish("t", 0, 5)
	b.want("a", 0, 5)
	e.lost.Store(true)
	b.publish("t", 5, 6) // the Fetch under way gets it, or else the next
	b.want("a", 0, 6)
	b.publish("t", 6, 7)
	b.want("a", 0, 7)
	b.end()
	if said := log.b.String(); strings.Count(said, "level=ERROR") != 1 || strings.Count(said, "missing") != 0 {
		t.Errorf("the log says: %s", said)
	}
	if n := b.mesh.Stats().EventsLost; n != 3 {
		t.Errorf("%d events are counted lost", n)
	}
}

// An event that is published again under its id is in the topic once; one that
// is there twice all the same, since the gateway that published it died before
// it could say so, is one call.
func TestPublishedAgainUnderOneID(t *testing.T) {
	b := newBench(t)
	b.create("orders")
	a := b.subscribe("1", "orders", false)
	by := runtime.Caller{Boot: b.boot, ID: b.mesh.NewID(runtime.Target{App: "app", Service: "p"}, "")}
	publish := func(by runtime.Caller, body string) {
		t.Helper()
		if err := b.mesh.Publish(t.Context(), by, "app", "orders", runtime.Event{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	publish(by, "0")
	publish(by, "0")
	if _, end, err := b.disk.Topics().Bounds(t.Context(), "orders"); err != nil || end != 1 {
		t.Errorf("the topic ends at %d: %v", end, err)
	}
	b.want(a.ID, 0, 1)
	again := runtime.PublishedAs(by.ID, "orders", runtime.Event{Body: []byte("0")})
	if _, err := b.disk.Topics().Publish(t.Context(), "orders", again); err != nil {
		t.Fatal(err)
	}
	publish(runtime.Caller{}, "1")
	b.want(a.ID, 0, 2)
}
