package peer

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// Path is where the other gateways dial.
const Path = "/kar/peer"

// Config of the streams of one gateway. Mesh and Node are needed.
type Config struct {
	Mesh    string
	Node    string // boot id of this gateway
	Address string // where the others reach this one
	Version string
	// Dial begins the proof to another gateway that this one, node, is of the
	// mesh; nil for none.
	Dial func(node string) Handshake
	// Verify takes that proof: it returns the boot id of the gateway that dials,
	// or an error, and puts what the answer must carry into w's header. Nil lets
	// in everybody who comes over the loopback interface, and nobody else.
	Verify func(w http.ResponseWriter, r *http.Request, us string) (node string, err error)
	// Knocked, when not nil, hears of gateways of the mesh that dial this one and
	// are not in its list, and the address that they say they have: there may be a
	// newer list, or none that both can read. It does not block.
	Knocked func(node, address string)
	// TLS for addresses with https; nil means the system's authorities.
	TLS *tls.Config
	// Silence is how long a stream may be silent before it is broken; it must be
	// the same on all gateways. 0 means 2 s.
	Silence time.Duration
	// FrameLimit is the largest op, result or note in bytes; 0 means 64 MiB, the
	// most is 256 MiB - 1.
	FrameLimit int
	// QueueLimit is how many bytes may wait for one gateway that reads nothing
	// before the stream is broken, twice as many for one that reads. A sixteenth of
	// it may wait of one app before its ops are held back; 0 means 256 MiB.
	QueueLimit int
	Logger     *slog.Logger // nil discards
}

// A Handshake is the dialling end of a proof, *doors.PeerDial.
type Handshake interface {
	// Sign says in the request's header who asks.
	Sign(r *http.Request)
	// Answered takes the answer. Again asks for the same request once more,
	// signed anew; neither that nor an error means that both have proved
	// themselves.
	Answered(r *http.Response) (again bool, err error)
	// Node is who has answered.
	Node() string
}

func (c *Config) fill() {
	if c.Silence <= 0 {
		c.Silence = 2 * time.Second
	}
	if c.FrameLimit <= 0 {
		c.FrameLimit = 64 << 20
	}
	c.FrameLimit = min(c.FrameLimit, maxFrame)
	if c.QueueLimit <= 0 {
		c.QueueLimit = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
}

// Peers are the streams of this gateway; they implement [engine.Peers], and
// http.Handler for [Path].
type Peers struct {
	cfg    Config
	format frames
	counts counters

	mu      sync.Mutex
	handler engine.PeerHandler // nil before Start
	wanted  []runtime.Member   // before Start
	members map[string]*member // to be kept
	ending  map[string]*member // not to be kept any more, but not at their end yet
	in      map[string]*stream // the last that each of the others dialled
	closed  bool

	streams sync.Map // node to *stream: dialled by us, both directions stand
	running sync.WaitGroup
}

// New makes Peers that do nothing before Start.
func New(cfg Config) (*Peers, error) {
	cfg.fill()
	format, err := newFrames()
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeInternal, "the format of frames: %v", err)
	}
	return &Peers{cfg: cfg, format: format, members: map[string]*member{}, ending: map[string]*member{}, in: map[string]*stream{}}, nil
}

// Start sets who takes what the others ask and tell. Its methods are called
// without any lock. What comes from a gateway comes between PeerUp and PeerDown
// of it. PeerDown with dead comes once for each time that the process is found
// to have ended, after a PeerDown without if there was a PeerUp.
func (p *Peers) Start(h engine.PeerHandler) {
	p.mu.Lock()
	p.handler = h
	wanted := p.wanted
	p.wanted = nil
	p.mu.Unlock()
	if wanted != nil {
		p.Connect(wanted)
	}
}

// Connect implements [engine.Peers]. It does not block and calls no handler.
// This gateway itself may be in the list. A stream needs both gateways to have
// the other in their lists.
func (p *Peers) Connect(members []runtime.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.handler == nil {
		p.wanted = members
		return
	}
	listed := map[string]bool{}
	for _, m := range members {
		if m.Node == p.cfg.Node || m.Node == "" || listed[m.Node] {
			continue
		}
		listed[m.Node] = true
		if old := p.members[m.Node]; old != nil {
			old.address = m.Address
			continue
		}
		p.keepLocked(m)
	}
	for node, m := range p.members {
		if !listed[node] {
			delete(p.members, node)
			p.ending[node] = m
			m.cancel()
		}
	}
}

func (p *Peers) keepLocked(m runtime.Member) {
	ctx, cancel := context.WithCancel(context.Background())
	n := &member{node: m.Node, address: m.Address, cancel: cancel, poke: make(chan struct{}, 1), done: make(chan struct{})}
	before := p.ending[m.Node]
	p.members[m.Node] = n
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		defer cancel()
		if before != nil {
			<-before.done // so that its PeerDown comes first
		}
		p.keep(ctx, n)
		p.mu.Lock()
		if p.ending[n.node] == n {
			delete(p.ending, n.node)
		}
		p.mu.Unlock()
		close(n.done)
	}()
}

// Ask implements [engine.Peers]. Without a stream it returns at once. An op
// that is too large to be sent is answered here.
func (p *Peers) Ask(ctx context.Context, node string, op *engine.Op) (*engine.Result, error) {
	s := p.to(node)
	if s == nil {
		return nil, runtime.Errorf(runtime.CodeNotOwner, "there is no stream to the gateway %s now", node)
	}
	return s.ask(ctx, op)
}

// Tell implements [engine.Peers].
func (p *Peers) Tell(node string, note *engine.Note) {
	s := p.to(node)
	if s == nil {
		return
	}
	if err := s.send(&frame{Note: note}); err != nil {
		p.cfg.Logger.Debug("a note was lost", "node", node, "error", err)
		if _, large := err.(*tooLargeError); large { //nolint:errorlint // send returns it bare
			p.cfg.Logger.Error("a note to another gateway is too large and was not sent", "node", node, "error", err)
		}
	}
}

func (p *Peers) to(node string) *stream {
	s, ok := p.streams.Load(node)
	if !ok {
		return nil
	}
	return s.(*stream)
}

// Close implements [engine.Peers]. When it returns, nothing runs any more and
// the handler is not called again; it has not heard of the end of the streams.
// Twice is fine. The handler must not call it, nor hold a lock that it needs.
func (p *Peers) Close() error {
	p.mu.Lock()
	p.closed = true
	for _, m := range p.members {
		m.cancel()
	}
	for _, s := range p.in {
		s.fail(errClosed)
	}
	p.mu.Unlock()
	p.running.Wait()
	return nil
}

func (p *Peers) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// counters are of all streams.
type counters struct {
	up                                     atomic.Int64
	framesIn, framesOut, bytesIn, bytesOut atomic.Uint64
	breaks, refused                        atomic.Uint64
}

// Stats are for metrics. All but Up only grow.
type Stats struct {
	Up                  int // gateways to which the stream stands
	FramesIn, FramesOut uint64
	BytesIn, BytesOut   uint64
	Breaks              uint64 // of streams that stood
	Refused             uint64 // dials of others that were not let in
}

// Stats may be called at any time.
func (p *Peers) Stats() Stats {
	c := &p.counts
	return Stats{
		Up:       int(c.up.Load()),
		FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		Breaks: c.breaks.Load(), Refused: c.refused.Load(),
	}
}
