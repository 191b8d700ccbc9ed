package activator

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// A link is one attached stream. It is the [runtime.Link] of its boot.
type link struct {
	a       *Activator
	conn    *tunnel.Conn
	info    runtime.HostInfo
	ctx     context.Context
	cancel  context.CancelFunc
	joining joining  // the reader's
	told    []string // gateways that the host was told of; of who beats

	// asked is for how many partitions a join was asked for: an answer to none is
	// not looked at. changing runs while a change waits for its turn, and changed
	// is when the last one was told.
	asked    atomic.Int64
	changing *time.Timer
	changed  time.Time

	exited   atomic.Bool // an exit was reported, nothing follows
	requests sync.WaitGroup
	beating  atomic.Bool
	mu       sync.Mutex
	waiting  map[uint64]context.CancelFunc
}

// Send queues a message for the host.
func (l *link) Send(m runtime.HostMessage) {
	switch m := m.(type) {
	case *runtime.Elsewhere:
		l.conn.Send(&tunnel.BeatAnswer{Gateways: m.Gateways}) // of no beat
	case *runtime.JoinAsk, *runtime.TermLost, *runtime.Taken:
		switch m := m.(type) {
		case *runtime.JoinAsk:
			l.asked.Add(int64(max(1, len(m.Epochs))))
		case *runtime.TermLost:
			l.asked.Add(1)
		}
		// A large invocation that the question overtook would not be in the
		// answer, and the repetition of one that a host was told to forget would
		// run again.
		l.conn.SendLast(m)
	default:
		l.conn.Send(m)
	}
}

// Break ends the stream of a host that does more than it may; the host joins anew.
func (l *link) Break(reason string) {
	l.a.cfg.Logger.Warn("a host's stream is broken", "host", l.info.Name, "boot", l.info.Boot, "error", reason)
	l.conn.Close()
}

// handle takes one message of the host; the reader calls it, one at a time.
func (l *link) handle(m tunnel.Message) {
	owners, boot := l.a.cfg.Owners, l.info.Boot
	if l.exited.Load() {
		return
	}
	switch m := m.(type) {
	case *tunnel.Request:
		l.request(m)
	case *tunnel.Answer:
		owners.Answered(boot, m.Answer)
	case *tunnel.Got:
		l.a.cfg.Release(l.info.App, m.IDs...)
	case *tunnel.Beat:
		l.beat(m.Seq)
	case *tunnel.PartJoined:
		ended, err := l.joining.add(&m.Joined)
		if err != nil {
			l.a.cfg.Logger.Warn("a host's stream is broken", "host", l.info.Name, "boot", boot, "error", err)
			l.conn.Close()
			return
		}
		if ended {
			join := l.joining.whole()
			l.joining = joining{partitions: l.a.cfg.Partitions}
			if l.asked.Load() > 0 {
				l.asked.Add(-int64(max(1, len(join.Epochs)+len(join.Later))))
				owners.Joined(boot, l, join.Epochs, join)
			}
		}
	case *tunnel.Deactivated:
		owners.Deactivated(boot, m.Deactivate)
	case *tunnel.Cancel:
		l.mu.Lock()
		if cancel := l.waiting[m.Seq]; cancel != nil {
			cancel()
		}
		l.mu.Unlock()
	case *tunnel.Changed:
		l.change(m.Draining, m.Frozen)
	case *tunnel.Exit:
		l.exited.Store(true)
		owners.HostDown(boot, m.Reason)
		l.conn.Send(&tunnel.Up{})
	}
}

// changePause is how soon after a change of its flags the next one of a host is
// told: every partition looks at each.
const changePause = time.Second

// change tells the owners that the host has other flags: at once, or, soon after
// another change, what is true then.
func (l *link) change(draining, frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.info.Draining == draining && l.info.Frozen == frozen {
		return
	}
	l.info.Draining, l.info.Frozen = draining, frozen
	switch wait := changePause - time.Since(l.changed); {
	case l.changing != nil:
	case wait <= 0:
		l.changed = time.Now()
		l.a.cfg.Owners.HostChanged(l.info)
	default:
		l.changing = time.AfterFunc(wait, l.changeNow)
	}
}

func (l *link) changeNow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changing != nil {
		l.changing, l.changed = nil, time.Now()
		l.a.cfg.Owners.HostChanged(l.info)
	}
}

// unchanging drops a change that waits: what the host says when it joins again counts.
func (l *link) unchanging() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changing != nil {
		l.changing.Stop()
		l.changing = nil
	}
}

// beat asks the owners, beside the reader: a partition that stalls must not
// hold up the host's answers to the others. One beat at a time is enough.
func (l *link) beat(seq uint64) {
	if !l.beating.CompareAndSwap(false, true) {
		l.conn.Send(&tunnel.BeatAnswer{Seq: seq, WallMillis: l.a.wall()}) // renews nothing, but the stream is whole
		return
	}
	l.requests.Go(func() {
		defer l.beating.Store(false)
		silent, lost := l.a.cfg.Owners.Beat(l.info.Boot)
		if lost && l.exited.Load() {
			return // its end was reported meanwhile, and that is what the owners know
		}
		if lost {
			l.conn.Send(&runtime.Verdict{Reason: "it was not heard of for longer than its lease"})
			return
		}
		answer := &tunnel.BeatAnswer{Seq: seq, Kept: true, Silent: silent, WallMillis: l.a.wall()}
		if list := l.a.cfg.Owners.Gateways(); !slices.Equal(list, l.told) {
			l.told, answer.Gateways = list, list
		}
		l.conn.Send(answer)
	})
}

// request serves one API request on a goroutine of its own.
func (l *link) request(m *tunnel.Request) {
	ctx, cancel := context.WithCancel(l.ctx)
	l.mu.Lock()
	if l.waiting == nil {
		l.waiting = map[uint64]context.CancelFunc{}
	}
	l.waiting[m.Seq] = cancel
	l.mu.Unlock()
	l.requests.Add(1)
	l.a.pool.do(func() {
		defer l.requests.Done()
		w := &recorder{limit: max(l.a.cfg.BodyLimit, answerLimit)}
		l.serve(ctx, w, m)
		l.mu.Lock()
		delete(l.waiting, m.Seq)
		l.mu.Unlock()
		gone := ctx.Err() != nil
		cancel()
		if gone {
			return
		}
		l.conn.Send(w.response(m.Seq))
	})
}

func (l *link) serve(ctx context.Context, w *recorder, m *tunnel.Request) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				return // as net/http does for its handlers
			}
			l.a.cfg.Logger.Error("a request made the gateway panic", "path", m.Path, "panic", p)
			w.fail(runtime.Errorf(runtime.CodeInternal, "the gateway failed on this request"))
		}
	}()
	r, e := l.build(ctx, m)
	if e != nil {
		w.fail(e)
		return
	}
	l.a.cfg.API.ServeHTTP(w, r)
}

// build makes the request as the gateway's HTTP server would have. A path of
// any other form would not stay below the host's own app.
func (l *link) build(ctx context.Context, m *tunnel.Request) (*http.Request, *runtime.Error) {
	if !strings.HasPrefix(m.Path, "/kar/v1/") {
		return nil, runtime.Errorf(runtime.CodeNotFound, "Not Found")
	}
	target := "/apps/" + url.PathEscape(l.info.App) + m.Path
	raw, query, asked := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeBadRequest, "the path cannot be read: %s", err)
	}
	header := http.Header(m.Header)
	if header == nil {
		header = http.Header{}
	}
	r := &http.Request{
		Method: m.Method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		URL:    &url.URL{Path: path, RawPath: raw, RawQuery: query, ForceQuery: asked && query == ""},
		Header: header, Host: "kar", RequestURI: target, RemoteAddr: l.info.Name,
		ContentLength: int64(len(m.Body)), Body: http.NoBody,
	}
	if len(m.Body) > 0 {
		r.Body = &bodyReader{rest: m.Body}
	}
	return r.WithContext(runtime.WithCaller(ctx, runtime.Caller{App: l.info.App, Boot: l.info.Boot, ID: m.ID})), nil
}
