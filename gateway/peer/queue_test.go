package peer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	kar "github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A slowPipe is a stream that dialled, and its other end, which takes nothing
// but what the test reads.
type slowPipe struct {
	*stream
	far   *stream
	ended chan error
}

func newSlowPipe(t *testing.T, queueLimit int, pieces bool) *slowPipe {
	t.Helper()
	leaks(t)
	near, far := net.Pipe()
	of := func(conn net.Conn) *stream {
		p, err := New(Config{Mesh: "m", Node: "x", Silence: time.Minute, QueueLimit: queueLimit})
		if err != nil {
			t.Fatal(err)
		}
		return newStream(p, "y", conn, nil)
	}
	s := &slowPipe{of(near), of(far), make(chan error, 1)}
	s.pieces = pieces
	go func() { s.ended <- s.run(s.answered) }()
	t.Cleanup(func() {
		s.fail(errClosed)
		_ = far.Close()
		<-s.ended
	})
	return s
}

func (s *slowPipe) next(t *testing.T) *frame {
	t.Helper()
	for {
		f, err := s.far.read()
		if err != nil {
			t.Fatal(err)
		}
		if f.Op != nil || f.Note != nil || f.Cancel || f.Result != nil {
			return f
		}
	}
}

// taken is how many bytes the other end has read.
func (s *slowPipe) taken() int { return int(s.far.counts.bytesIn.Load()) }

func (s *slowPipe) queued() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// inLane is how many frames wait in a lane, and how many of them are held back.
func (s *slowPipe) inLane(key string) (n, later, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.stream.queue.lanes[key]
	if l == nil {
		return 0, 0, 0
	}
	return len(l.items) + len(l.later), len(l.later), l.bytes
}

// askLater begins to ask, and returns when the op is queued.
func (s *slowPipe) askLater(t *testing.T, ctx context.Context, op *engine.Op) chan error { //nolint:revive // t first, as everywhere here
	t.Helper()
	before, answer := s.queued(), make(chan error, 1)
	go func() {
		r, err := s.ask(ctx, op)
		if err == nil && r.Err != nil {
			err = r.Err
		}
		answer <- err
	}()
	eventually(t, "the op is queued", func() bool { return s.queued() == before+1 })
	return answer
}

func submit(app string, n, size int) *engine.Op {
	id := kar.ID{}
	id[0], id[1], id[2] = 1, byte(n>>8), byte(n)
	return &engine.Op{Epoch: uint64(n), Submit: &engine.SubmitOp{Request: kar.Request{ID: id, Target: kar.Target{App: app}, Body: make([]byte, size)}}}
}

func beats(n int) *engine.Note { return &engine.Note{Beats: &engine.BeatsNote{Seq: uint64(n)}} }

// TestSmallPassesLargeBodies: what is small, of another app or of nobody, waits
// for a few pieces of what one app has queued.
func TestSmallPassesLargeBodies(t *testing.T) {
	for _, pieces := range []bool{true, false} {
		t.Run(fmt.Sprint("pieces ", pieces), func(t *testing.T) {
			const large, n = 4 << 20, 25
			s := newSlowPipe(t, 64<<20, pieces)
			for i := range n {
				s.askLater(t, t.Context(), submit("a", i, large))
			}
			if _, later, bytes := s.inLane("a"); later == 0 || bytes > 64<<20/appShare+large+1<<10 {
				t.Fatalf("%d of the ops are held back, and %d bytes wait", later, bytes)
			}
			s.askLater(t, t.Context(), submit("b", 100, 100))
			_ = s.send(&frame{Note: beats(1)})
			most := 6 * pieceSize
			if !pieces {
				most += 2 * large // to an older gateway each goes as a whole
			}
			for bodies, small := 0, 0; bodies+small < n+2; {
				switch f := s.next(t); {
				case f.Note != nil, f.Op.Submit.Request.Target.App == "b":
					if small++; s.taken() > most {
						t.Errorf("%d bytes went before %+v", s.taken(), f)
					}
				case f.Op.Epoch != uint64(bodies) || len(f.Op.Submit.Request.Body) != large:
					t.Fatalf("%d came, %d is next", f.Op.Epoch, bodies)
				default:
					bodies++
				}
			}
			if err := s.broken(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAppsTakeTurns: two apps with large bodies have the same share, and one
// with fewer is done sooner.
func TestAppsTakeTurns(t *testing.T) {
	s := newSlowPipe(t, 0, true)
	for i := range 8 {
		s.askLater(t, t.Context(), submit("a", i, 1<<20))
	}
	s.askLater(t, t.Context(), submit("b", 100, 1<<20))
	for i := 0; ; i++ {
		f := s.next(t)
		if f.Op.Submit.Request.Target.App == "b" {
			if i > 2 {
				t.Errorf("%d bodies of the other app went before", i)
			}
			return
		}
	}
}

// TestRoomOfAnApp: ops beyond the room of their app wait, those that are given
// up never go, and nothing of it breaks the stream.
func TestRoomOfAnApp(t *testing.T) {
	const limit, size, n = 16 << 20, 256 << 10, 200
	s := newSlowPipe(t, limit, true)
	var given context.CancelFunc
	var gaveUp chan error
	for i := range n {
		ctx := t.Context()
		if i == n/2 {
			ctx, given = context.WithCancel(ctx)
		}
		answer := s.askLater(t, ctx, submit("a", i, size))
		if i == n/2 {
			gaveUp = answer
		}
		if _, _, bytes := s.inLane("a"); bytes > limit/appShare+size+1<<10 {
			t.Fatalf("%d bytes of one app wait", bytes)
		}
	}
	// What is asked about a submit that is held back stays behind it, without an app too.
	about := submit("a", n-1, 0).Submit.Request.ID
	s.askLater(t, t.Context(), &engine.Op{Epoch: n, Await: &kar.Await{ID: about}})
	given()
	if err := <-gaveUp; !isAgain(err) {
		t.Error(err)
	}
	for i := range n + 1 {
		if i == n/2 {
			continue
		}
		if f := s.next(t); f.Op == nil || f.Op.Epoch != uint64(i) {
			t.Fatalf("%d: %+v", i, f)
		}
	}
	if k, _, _ := s.inLane("a"); k != 0 || s.broken() != nil {
		t.Error(k, s.broken())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := &s.stream.queue; q.waiting != 0 || len(q.ids) != 0 || len(q.lanes) != 0 {
		t.Errorf("%+v", q)
	}
}

// TestOpThatTurnsOutTooLarge when there is room for it.
func TestOpThatTurnsOutTooLarge(t *testing.T) {
	s := newSlowPipe(t, 16<<20, true)
	s.cfg.FrameLimit = 2 << 20
	for i := range 4 {
		s.askLater(t, t.Context(), submit("a", i, 1<<20))
	}
	answer := s.askLater(t, t.Context(), submit("a", 4, 3<<20))
	last := s.askLater(t, t.Context(), submit("a", 5, 1))
	for _, want := range []uint64{0, 1, 2, 3, 5} {
		if f := s.next(t); f.Op.Epoch != want {
			t.Fatalf("%d, want %d", f.Op.Epoch, want)
		}
	}
	e := (*kar.Error)(nil)
	if err := <-answer; !asError(err, &e) || e.Code != kar.CodeTooLarge {
		t.Error(err)
	}
	s.fail(errClosed)
	if err := <-last; !isAgain(err) {
		t.Error(err)
	}
}

func asError(err error, e **kar.Error) bool {
	x, ok := err.(*kar.Error) //nolint:errorlint // never wrapped here
	*e = x
	return ok
}

// TestOrderOnAStream: what is of one app keeps its order, ops with notes of its
// hosts; so do the messages of one partition to another, and notes of no app.
func TestOrderOnAStream(t *testing.T) {
	for _, pieces := range []bool{true, false} {
		t.Run(fmt.Sprint("pieces ", pieces), func(t *testing.T) {
			s := newSlowPipe(t, 1<<30, pieces)
			rng := rand.New(rand.NewPCG(1, 2))
			size := func() int { return []int{0, 10, 1 << 10, 60 << 10, 64 << 10, 65 << 10, 300 << 10}[rng.IntN(7)] }
			const n = 2000
			sent := map[string][]uint64{}
			var asks []uint64
			for i := range uint64(n) {
				app := string(rune('a' + rng.IntN(3)))
				host := &engine.HostNote{Boot: app + " host", App: app, Seq: i}
				key := app
				switch rng.IntN(8) {
				case 0:
					key = "beats"
					_ = s.send(&frame{Note: beats(int(i))})
				case 1:
					key = "partition"
					_ = s.send(&frame{Note: &engine.Note{Input: &engine.InputNote{Deliver: &kar.Deliver{N: i, Payload: make([]byte, size())}}}})
				case 2:
					host.App, host.Up = "", &engine.HostUpNote{Info: kar.HostInfo{Boot: host.Boot, App: app}}
					host.Up.Join.Finished = []kar.Answer{{Outcome: &kar.Outcome{Body: make([]byte, size())}}}
					_ = s.send(&frame{Note: &engine.Note{Host: host}})
				case 3:
					host.Answered = &kar.Answer{Outcome: &kar.Outcome{Body: make([]byte, size())}}
					_ = s.send(&frame{Note: &engine.Note{Host: host}})
				case 4:
					host.Unlinked = true
					_ = s.send(&frame{Note: &engine.Note{Host: host}})
				case 5:
					_ = s.send(&frame{Note: &engine.Note{ToHost: &engine.ToHostNote{Boot: host.Boot, App: app, Attachment: i, Invoke: &kar.Invoke{Body: make([]byte, size())}}}})
				default:
					s.mu.Lock()
					err := s.put(&frame{Seq: i, Op: submit(app, int(i), size())}, app)
					s.mu.Unlock()
					if err != nil {
						t.Fatal(err)
					}
					asks = append(asks, i)
				}
				sent[key] = append(sent[key], i)
				if k := len(asks); k > 0 && rng.IntN(10) == 0 { // somebody asks about one of them, and names no app
					id := asks[k-1]
					s.mu.Lock()
					await := &engine.Op{Await: &kar.Await{ID: submit("", int(id), 0).Submit.Request.ID}, Epoch: id}
					_ = s.put(&frame{Seq: n + id, Op: await}, s.stream.queue.laneOf(await))
					s.mu.Unlock()
					asks = asks[:k-1]
				}
				if rng.IntN(200) == 0 { // some is read in between
					for range 20 {
						note(t, s, sent)
					}
				}
			}
			for left(sent) > 0 {
				note(t, s, sent)
			}
		})
	}
}

func left(sent map[string][]uint64) (n int) {
	for key, list := range sent {
		if key != "seen" {
			n += len(list)
		}
	}
	return n
}

// note reads a frame and finds it first in its list.
func note(t *testing.T, s *slowPipe, sent map[string][]uint64) {
	t.Helper()
	if left(sent) == 0 {
		return
	}
	f := s.next(t)
	var key string
	var i uint64
	switch n := f.Note; {
	case f.Op != nil && f.Op.Await != nil:
		if !slices.Contains(sent["seen"], f.Op.Epoch) {
			t.Fatalf("the question about %d came before it", f.Op.Epoch)
		}
		return
	case f.Op != nil:
		key, i = f.Op.Submit.Request.Target.App, f.Seq
		sent["seen"] = append(sent["seen"], i)
	case n.Beats != nil:
		key, i = "beats", n.Beats.Seq
	case n.Input != nil:
		key, i = "partition", n.Input.Deliver.N
	case n.Host != nil:
		key, i = n.Host.Boot[:1], n.Host.Seq
	case n.ToHost != nil:
		key, i = n.ToHost.App, n.ToHost.Attachment
	}
	if list := sent[key]; len(list) == 0 || list[0] != i {
		t.Fatalf("%s: %d came, %d is next", key, i, list[0])
	}
	sent[key] = sent[key][1:]
}

// TestCancelStaysBehindItsOp when a part of that has gone.
func TestCancelStaysBehindItsOp(t *testing.T) {
	s := newSlowPipe(t, 0, true)
	ctx, cancel := context.WithCancel(t.Context())
	answer := s.askLater(t, ctx, submit("a", 0, 1<<20))
	eventually(t, "it has begun", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.writing > 0
	})
	cancel()
	<-answer
	if f := s.next(t); f.Op == nil {
		t.Fatalf("%+v", f)
	}
	if f := s.next(t); !f.Cancel || f.Seq != 1 {
		t.Fatalf("%+v", f)
	}
}

// TestRoomForAnswers: large answers beyond the room of their app are asked for
// again, small ones go, and those of others too.
func TestRoomForAnswers(t *testing.T) {
	const limit = 16 << 20
	s := newSlowPipe(t, limit, true)
	open := func(seq uint64, lane string) {
		if err := s.open(seq, served{func() {}, lane}); err != nil {
			t.Fatal(err)
		}
	}
	large := func() *engine.Result { return &engine.Result{Value: make([]byte, 512<<10)} }
	for i := range uint64(100) {
		open(i, "a")
		s.reply(i, large())
	}
	if _, _, bytes := s.inLane("a"); bytes > limit/appShare+600<<10 {
		t.Errorf("%d bytes wait", bytes)
	}
	open(100, "b")
	s.reply(100, large())
	open(101, "b")
	s.reply(101, &engine.Result{Open: true})
	whole, again := 0, 0
	for range 102 {
		f := s.next(t)
		switch r := f.Result; {
		case f.Seq >= 100:
			if r.Err != nil {
				t.Error(f.Seq, r.Err)
			}
		case r.Err == nil:
			whole++
		case r.Err.Code == kar.CodeAskAgain:
			again++
		}
	}
	if whole < 2 || whole+again != 100 {
		t.Error(whole, again)
	}
}

// TestSlowReaderIsNotStuck: only who reads nothing loses the stream at QueueLimit.
func TestSlowReaderIsNotStuck(t *testing.T) {
	s := newSlowPipe(t, 4<<20, true)
	large := &engine.Note{Host: &engine.HostNote{Boot: "h", App: "a", Answered: &kar.Answer{Outcome: &kar.Outcome{Body: make([]byte, 1<<20)}}}}
	for range 6 {
		if err := s.send(&frame{Note: large}); err != nil {
			t.Fatal(err)
		}
	}
	s.next(t)
	eventually(t, "a write is under way", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.writing > 0
	})
	s.mu.Lock()
	s.moved = time.Now().Add(-s.cfg.Silence) // as if nothing had been read for so long
	s.mu.Unlock()
	if err := s.send(&frame{Note: large}); err != errQueueFull { //nolint:errorlint // it is returned bare
		t.Error(err)
	}
}

// TestHelloTellsOfPieces: to a gateway that does not know them, and from one.
func TestHelloTellsOfPieces(t *testing.T) {
	for _, knows := range []bool{true, false} {
		p, err := New(Config{Mesh: "m", Node: "x", Silence: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		said := make(chan string, 1)
		go func() {
			r, err := http.ReadRequest(bufio.NewReader(far))
			if err != nil {
				said <- err.Error()
				return
			}
			said <- r.Header.Get(piecesHeader)
			more := ""
			if knows {
				more = piecesHeader + ": 1\r\n"
			}
			_, _ = io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\n"+nodeHeader+": y\r\n"+more+"\r\n")
		}()
		s, err := p.upgrade(t.Context(), "y", &url.URL{Scheme: "http", Host: "y"}, near)
		if err != nil || s.pieces != knows {
			t.Error(knows, s, err)
		}
		if x := <-said; x != "1" {
			t.Error(x)
		}
		_, _ = near.Close(), far.Close()
	}
	a, b := start(t, "a"), start(t, "b")
	a.join(t, []*node{b}, b.member())
	a.Peers.mu.Lock()
	in := a.in["b"]
	a.Peers.mu.Unlock()
	if !a.to("b").pieces || !in.pieces {
		t.Error("two gateways of this version do not use pieces")
	}
}
