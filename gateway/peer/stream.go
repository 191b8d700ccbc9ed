package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	kar "github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

var (
	errClosed    = errors.New("closed")
	errReplaced  = errors.New("replaced by a later connection of the same gateway")
	errOtherHalf = errors.New("the connection of the other direction broke")
	errSilent    = errors.New("nothing was heard in time")
	errQueueFull = errors.New("the other gateway does not read, too much is waiting")
	errStalled   = errors.New("the other gateway does not read, a write did not end in time")
	errOrder     = errors.New("the other gateway sent what does not belong on this stream")
)

const (
	// writeSize is how much is written at a time, so that time limits are of progress.
	writeSize = 256 << 10
	// keepSize is the largest buffer that is kept for the next frames.
	keepSize = 1 << 20
	// stallFactor times Silence is how long writeSize bytes may take. It is
	// long: a gateway that is gone is known by its silence.
	stallFactor = 5
)

// A stream is one connection, at either end, and half of what is called a
// stream elsewhere. The dialler asks, tells and cancels; the other end answers.
type stream struct {
	node string // at the other end
	// address of the other end as it says, when it has dialled
	address string
	conn    net.Conn
	in      *bufio.Reader
	format  frames
	cfg     *Config
	counts  *counters

	mu      sync.Mutex
	out     []byte // frames that wait
	writing int    // bytes on their way out
	wrote   bool   // since the last look of the writer
	seq     uint64
	asked   map[uint64]chan *engine.Result // by the dialler, closed when there will be no answer
	serving map[uint64]context.CancelFunc  // at the other end
	err     error

	wake    chan struct{}
	done    chan struct{} // closed when broken
	ended   chan struct{} // closed when nothing of the stream is handed over any more
	claimed chan struct{} // at the other end: closed when the other direction stands as well
}

// newStream takes over conn; early are bytes of it that were read already.
func newStream(p *Peers, node string, conn net.Conn, early []byte) *stream {
	timed := &timedReader{conn: conn, silence: p.cfg.Silence, counts: &p.counts}
	return &stream{
		node: node, conn: conn, format: p.format, cfg: &p.cfg, counts: &p.counts,
		in:    bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), timed), 64<<10),
		asked: map[uint64]chan *engine.Result{}, serving: map[uint64]context.CancelFunc{},
		wake: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{}), claimed: make(chan struct{}),
	}
}

// timedReader ends in an error when nothing comes for too long.
type timedReader struct {
	conn    net.Conn
	silence time.Duration
	counts  *counters
}

func (r *timedReader) Read(b []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.silence)); err != nil {
		return 0, err
	}
	n, err := r.conn.Read(b)
	r.counts.bytesIn.Add(uint64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errSilent
	}
	return n, err
}

// fail breaks the stream. Whoever waits for an answer learns it at once.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	s.out = nil
	close(s.done)
	_ = s.conn.Close() // the first error is the one to tell
	for _, answer := range s.asked {
		close(answer)
	}
	for _, cancel := range s.serving {
		cancel()
	}
	s.asked, s.serving = nil, nil
}

// broken is why the stream broke, nil while it is whole.
func (s *stream) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *stream) whole() bool { return s.broken() == nil }

// run hands each frame to handle, one at a time, until the stream breaks, and
// says why it did. Nothing of the stream runs any more then.
func (s *stream) run(handle func(*frame) error) error {
	written := make(chan struct{})
	go func() { defer close(written); s.write() }()
	for {
		f, err := s.read()
		if err == nil {
			err = handle(f)
		}
		if err != nil {
			s.fail(err)
			break
		}
	}
	close(s.ended)
	<-written
	return s.broken()
}

func (s *stream) read() (*frame, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > s.cfg.FrameLimit {
		return nil, fmt.Errorf("a frame of %d bytes came, and the limit is %d", n, s.cfg.FrameLimit)
	}
	f := &frame{}
	s.counts.framesIn.Add(1)
	if n <= s.in.Size() {
		data, err := s.in.Peek(n)
		if err != nil {
			return nil, err
		}
		err = s.format.get(f, data)
		_, _ = s.in.Discard(n) // it is there
		return f, err
	}
	var data bytes.Buffer // grows with what comes, not with what is claimed
	if _, err := io.CopyN(&data, s.in, int64(n)); err != nil {
		return nil, err
	}
	return f, s.format.get(f, data.Bytes())
}

// send queues f. It does not block. The error says that f is too large, or
// that the stream is broken.
func (s *stream) send(f *frame) error {
	s.mu.Lock()
	err := s.queue(f)
	s.mu.Unlock()
	return s.sent(err)
}

// sent ends what began with queue, without the lock.
func (s *stream) sent(err error) error {
	if errors.Is(err, errQueueFull) {
		s.fail(err)
	}
	return err
}

// queue is send for those who hold the lock; they go on with sent.
func (s *stream) queue(f *frame) error {
	if s.err != nil {
		return s.err
	}
	first := len(s.out) == 0
	var err error
	if s.out, err = s.format.put(s.out, f, s.cfg.FrameLimit); err != nil {
		return &tooLargeError{err}
	}
	s.counts.framesOut.Add(1)
	if len(s.out)+s.writing > s.cfg.QueueLimit {
		return errQueueFull
	}
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

type tooLargeError struct{ error }

// write is the only writer: each turn takes all that waits.
func (s *stream) write() {
	beat := time.NewTicker(s.cfg.Silence / 4)
	defer beat.Stop()
	var spare []byte
	for {
		idle := false
		select {
		case <-s.done:
			return
		case <-beat.C:
			idle = true
		case <-s.wake:
			// Let those who are about to send do so first: one system call for all.
			runtime.Gosched()
		}
		s.mu.Lock()
		if idle && !s.wrote && s.err == nil {
			s.out = append(s.out, 0, 0, 0, 0) // a sign of life
		}
		b := s.out
		s.out, s.writing, s.wrote = spare[:0], len(b), !idle && len(b) > 0
		s.mu.Unlock()
		if err := s.flush(b); err != nil {
			s.fail(err)
			return
		}
		s.mu.Lock()
		s.writing = 0
		s.mu.Unlock()
		if spare = b; cap(spare) > keepSize {
			spare = nil
		}
	}
}

func (s *stream) flush(b []byte) error {
	for len(b) > 0 {
		if err := s.conn.SetWriteDeadline(time.Now().Add(stallFactor * s.cfg.Silence)); err != nil {
			return err
		}
		n, err := s.conn.Write(b[:min(len(b), writeSize)])
		s.counts.bytesOut.Add(uint64(n))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errStalled
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// ask is the dialler's question.
func (s *stream) ask(ctx context.Context, op *engine.Op) (*engine.Result, error) {
	answer := make(chan *engine.Result, 1)
	s.mu.Lock()
	s.seq++
	seq := s.seq
	err := s.queue(&frame{Seq: seq, Op: op})
	if err == nil {
		s.asked[seq] = answer
	}
	s.mu.Unlock()
	if err := s.sent(err); err != nil {
		if large := (*tooLargeError)(nil); errors.As(err, &large) {
			return &engine.Result{Err: kar.Errorf(kar.CodeTooLarge, "the request cannot go to the gateway that has to decide: %v", large.error)}, nil
		}
		return nil, again(s.node, err)
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return nil, again(s.node, errors.New("the stream broke before the answer"))
		}
		return r, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	if s.asked[seq] != nil {
		delete(s.asked, seq)
		err = s.queue(&frame{Seq: seq, Cancel: true})
	}
	s.mu.Unlock()
	_ = s.sent(err) // nobody waits any more
	select {
	case r, ok := <-answer: // in this moment
		if ok {
			return r, nil
		}
	default:
	}
	return nil, again(s.node, ctx.Err())
}

// answered takes a frame at the dialler.
func (s *stream) answered(f *frame) error {
	if f.Op != nil || f.Note != nil || f.Cancel {
		return errOrder
	}
	if f.Result == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.asked[f.Seq]; answer != nil { // nil: the asker has given up
		delete(s.asked, f.Seq)
		answer <- f.Result // there is room for one
	}
	return nil
}

// serve takes a frame at the other end. Nothing is handed over before this
// gateway has its own stream to the other one and has said so.
func (s *stream) serve(f *frame, h engine.PeerHandler) error {
	if f.Result != nil {
		return errOrder
	}
	if f.Op == nil && f.Note == nil && !f.Cancel {
		return nil
	}
	select {
	case <-s.claimed:
	case <-s.done:
		return errClosed
	}
	switch {
	case f.Op != nil:
		// Not a child of the stream's: it ends with the stream by fail, and when
		// it has been answered nobody has to end it.
		ctx, cancel := context.WithCancel(context.Background())
		if err := s.open(f.Seq, cancel); err != nil {
			cancel()
			return err
		}
		h.Serve(ctx, s.node, f.Op, func(r *engine.Result) { s.reply(f.Seq, r) })
	case f.Cancel:
		s.mu.Lock()
		cancel := s.serving[f.Seq]
		delete(s.serving, f.Seq)
		s.mu.Unlock()
		if cancel != nil { // nil: answered meanwhile
			cancel()
		}
	case f.Note != nil:
		h.Heard(s.node, f.Note)
	}
	return nil
}

// open remembers how to end an op.
func (s *stream) open(seq uint64, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving[seq] != nil {
		return errOrder
	}
	if s.err == nil {
		s.serving[seq] = cancel
	}
	return s.err
}

// reply sends the first answer; nobody waits for one that was cancelled.
func (s *stream) reply(seq uint64, r *engine.Result) {
	s.mu.Lock()
	var err error
	if s.serving[seq] != nil {
		delete(s.serving, seq)
		err = s.queue(&frame{Seq: seq, Result: r})
		if large := (*tooLargeError)(nil); errors.As(err, &large) {
			err = s.queue(&frame{Seq: seq, Result: &engine.Result{
				Err: kar.Errorf(kar.CodeResultTooLarge, "the answer cannot go to the gateway that asks: %v", large.error),
			}})
		}
	}
	s.mu.Unlock()
	_ = s.sent(err) // the stream is broken, the asker knows
}

func again(node string, err error) error {
	return kar.Errorf(kar.CodeAskAgain, "the gateway %s did not answer: %v", node, err)
}
