package engine_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A simLink is the stream of a host to the gateway that it met: in order both ways.
type simLink struct {
	h       *simHost
	n       *simNode
	over    context.Context
	stop    context.CancelFunc
	up, dn  simWay
	beating atomic.Bool
}

// A simWay is one direction.
type simWay struct {
	mu    sync.Mutex
	queue []simMessage
	more  chan struct{}
	last  time.Time
}

func newSimLink(h *simHost, n *simNode) *simLink {
	l := &simLink{h: h, n: n}
	l.over, l.stop = context.WithCancel(h.over)
	l.up.more, l.dn.more = make(chan struct{}, 1), make(chan struct{}, 1)
	return l
}

func (w *simWay) say(d *dice, do func()) {
	w.mu.Lock()
	w.last = time.Now().Add(d.between(0, 6*time.Millisecond))
	w.queue = append(w.queue, simMessage{w.last, do})
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// run hands over in order what pass lets through.
func (w *simWay) run(over context.Context, pass func() bool) {
	for {
		w.mu.Lock()
		var m simMessage
		if len(w.queue) > 0 {
			m, w.queue = w.queue[0], w.queue[1:]
		}
		w.mu.Unlock()
		if m.do == nil {
			select {
			case <-w.more:
				continue
			case <-over.Done():
				return
			}
		}
		if !sleepFor(over, time.Until(m.due)) || !pass() || over.Err() != nil {
			return
		}
		m.do()
	}
}

func (l *simLink) toNode(do func()) { l.up.say(l.h.w.dice, do) }
func (l *simLink) toHost(do func()) { l.dn.say(l.h.w.dice, do) }

// Send implements runtime.Link.
func (l *simLink) Send(m runtime.HostMessage) { l.toHost(func() { l.h.received(l, m) }) }

// live is the stream from the dialling to its end.
func (l *simLink) live() {
	h, n, d := l.h, l.n, l.h.w.dice
	defer l.stop()
	end := context.AfterFunc(n.ended, l.stop)
	defer end()
	epochs := n.mesh.Epochs() // its welcome
	if !sleepFor(l.over, d.between(0, 20*time.Millisecond)) || !h.pass() {
		return
	}
	h.mu.Lock()
	h.attachment++
	info, join := h.info(), h.answer(epochs)
	h.unsent = nil
	h.mu.Unlock()
	sent := time.Now()
	passes := func() bool { return n.pass() == nil }
	up := make(chan struct{})
	h.w.spawn(func() { // the gateway's end
		defer close(up)
		if !sleepFor(l.over, d.between(0, 20*time.Millisecond)) || !passes() {
			return
		}
		err := n.mesh.HostUp(info, join, l)
		if is(err, runtime.CodeHostLost) {
			h.kill("refused: "+err.Error(), true)
		}
		if err != nil {
			l.stop()
			return
		}
		l.up.run(l.over, passes)
		l.stop()
		n.mesh.LinkDown(h.boot, l)
	})
	if !sleepFor(l.over, d.between(0, 10*time.Millisecond)) || !h.pass() {
		l.stop()
		<-up
		return
	}
	h.mu.Lock()
	if !h.begun {
		h.begun, h.heard = true, sent
		for i := range h.parts {
			h.parts[i].kept = sent
		}
	}
	h.link, h.answered = l, time.Now()
	for _, say := range h.unsent {
		say(l)
	}
	h.unsent = nil
	if now := h.info(); now.Draining != info.Draining || now.Frozen != info.Frozen {
		h.tellCondition()
	}
	h.beat()
	for _, a := range h.asks {
		a.open = true
		a.send(l)
	}
	h.mu.Unlock()
	l.dn.run(l.over, h.pass)
	h.mu.Lock()
	h.link = nil
	h.mu.Unlock()
	l.stop()
	<-up
}
