package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// A message above pieceSize goes in pieces of that size.
	pieceSize = 64 << 10
	// inFlight is how many large messages share the stream at a time; it bounds
	// what the reader has to hold.
	inFlight = 16
	maxFrame = pieceSize + 64
	// KeepsOrder is up to how many bytes of body and header a message is small
	// for certain: it overtakes nothing and is not overtaken.
	KeepsOrder = pieceSize - 1<<10
)

// Limits of one end of a stream.
type Limits struct {
	// Message is the largest message that is read, in bytes.
	Message int
	// Queue is how many bytes may wait to be written to an end that has read
	// nothing for a second (eight times as much to one that reads); beyond it the
	// stream is broken. 0 means no limit: the sender uses [Conn.Room].
	Queue int
	// Stall is how long one write may take, and Silence how long nothing may
	// be read, before the stream is broken; 0 means 10 s and for ever.
	Stall, Silence time.Duration
}

// Errors by which a Conn breaks itself.
var (
	errQueueFull = errors.New("tunnel: the other end does not read, too much is waiting")
	errStalled   = errors.New("tunnel: a write did not end in time")
	errSilent    = errors.New("tunnel: nothing was heard from the other end in time")
	errClosed    = errors.New("tunnel: closed")
)

// A Conn is one end of a stream. Before Run, messages go one by one with Write
// and Read; Send may be used at any time, what it queues leaves once Run runs.
type Conn struct {
	ws     *websocket.Conn
	limits Limits
	in     *bufio.Reader
	frames io.Reader
	parts  map[uint64]*partial

	mu     sync.Mutex
	out    []byte    // encoded small messages
	large  []*pieces // messages that go in pieces, the first inFlight take turns
	nextID uint64
	last   []last        // messages that wait for the large ones before them
	queued int           // bytes not yet written
	empty  chan struct{} // closed when something was written and somebody waits for it
	err    error

	wake  chan struct{}
	done  chan struct{} // closed when broken
	wrote time.Time     // start of the write in progress, zero when there is none
	heard time.Time
}

// pieces is a large message on its way out.
type pieces struct {
	id    uint64
	head  []byte
	body  []byte
	total int
	begun bool
}

// last is a message that may not overtake the large messages up to an id.
type last struct {
	after uint64
	m     Message
}

// partial is a large message on its way in.
type partial struct {
	total int
	data  []byte
}

// New makes an end of a stream of an accepted or dialled WebSocket.
func New(ws *websocket.Conn, limits Limits) *Conn {
	if limits.Stall == 0 {
		limits.Stall = 10 * time.Second
	}
	ws.SetReadLimit(-1) // bounded frame by frame instead
	return &Conn{
		ws: ws, limits: limits, parts: map[uint64]*partial{},
		in:   bufio.NewReaderSize(nil, 32<<10),
		wake: make(chan struct{}, 1), done: make(chan struct{}), heard: time.Now(),
	}
}

// Quiet is how long nothing has been heard while Run runs with a limit of silence.
func (c *Conn) Quiet() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.heard)
}

// ExpectWithin sets the limit of silence before Run.
func (c *Conn) ExpectWithin(d time.Duration) { c.limits.Silence = d }

// Done is closed when the stream is broken, Err says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the stream is whole.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close breaks the stream at once. Twice is fine.
func (c *Conn) Close() { c.fail(errClosed) }

func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.out, c.large, c.last = nil, nil, nil
	close(c.done)
	c.mu.Unlock()
	_ = c.ws.CloseNow() // the first error is the one to tell
}

// Send queues a message. It does not block; on a broken stream it does nothing.
// The message and its body must not be changed afterwards.
func (c *Conn) Send(m Message) { c.send(m, false) }

// SendLast is a Send that overtakes nothing: m goes when all that was sent
// before it has gone, large messages too. It may be overtaken itself meanwhile.
func (c *Conn) SendLast(m Message) { c.send(m, true) }

func (c *Conn) send(m Message, behind bool) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	before := len(c.out)
	if behind && len(c.large) > 0 {
		c.last = append(c.last, last{c.nextID, m})
	} else {
		c.queue(m)
	}
	full := c.overfull()
	c.mu.Unlock()
	if full {
		c.fail(errQueueFull)
		return
	}
	if before == 0 {
		c.signal()
	}
}

// overfull tells that too much waits for an end that does not read. An end
// that reads may catch up with a burst several times the limit.
func (c *Conn) overfull() bool {
	if c.limits.Queue == 0 || c.queued <= c.limits.Queue {
		return false
	}
	stuck := !c.wrote.IsZero() && time.Since(c.wrote) > time.Second
	return stuck || c.queued > 8*c.limits.Queue
}

func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// queue encodes m into place: room for a length of fixed width goes in front,
// so that nothing has to move.
func (c *Conn) queue(m Message) {
	start := len(c.out)
	b, body := encode(append(c.out, 0, 0, 0), m)
	n := len(b) - start - 3 + len(body)
	if n <= pieceSize {
		b = append(b, body...)
		putLength(b[start:], n)
		c.out = b
		c.queued += n + 3
		return
	}
	head := append([]byte(nil), b[start+3:]...)
	c.out = b[:start]
	c.nextID++
	c.large = append(c.large, &pieces{id: c.nextID, head: head, body: body, total: n})
	c.queued += n
	c.signal()
}

// putLength writes n as a uvarint of exactly three bytes.
func putLength(b []byte, n int) {
	b[0] = byte(n) | 0x80
	b[1] = byte(n>>7) | 0x80
	b[2] = byte(n >> 14)
}

// Room waits until at most n bytes wait to be written.
func (c *Conn) Room(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		if c.err != nil || c.queued <= n {
			err := c.err
			c.mu.Unlock()
			return err
		}
		if c.empty == nil {
			c.empty = make(chan struct{})
		}
		changed := c.empty
		c.mu.Unlock()
		select {
		case <-changed:
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Flush waits until everything that was sent has been written.
func (c *Conn) Flush(ctx context.Context) error { return c.Room(ctx, 0) }
