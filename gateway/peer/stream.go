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
	// maxParts is how many frames may be on their way in pieces at a time, and
	// partsFactor times QueueLimit how many bytes of them.
	maxParts    = 1 << 14
	partsFactor = 4
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

	pieces bool                     // the other end takes them
	parts  map[uint64]*bytes.Buffer // the reader's: frames that come in pieces
	parted int                      // bytes in parts

	mu      sync.Mutex
	queue   queue
	writing int       // bytes on their way out
	moved   time.Time // when some of them went, or the first did
	wrote   bool      // since the last look of the writer
	seq     uint64
	asked   map[uint64]chan *engine.Result // by the dialler, closed when there will be no answer
	serving map[uint64]served              // at the other end
	err     error

	wake    chan struct{}
	done    chan struct{} // closed when broken
	ended   chan struct{} // closed when nothing of the stream is handed over any more
	claimed chan struct{} // at the other end: closed when the other direction stands as well
}

// served is an op that has no answer yet.
type served struct {
	cancel context.CancelFunc
	lane   string // of the answer
}

// newStream takes over conn; early are bytes of it that were read already.
func newStream(p *Peers, node string, conn net.Conn, early []byte) *stream {
	timed := &timedReader{conn: conn, silence: p.cfg.Silence, counts: &p.counts}
	return &stream{
		node: node, conn: conn, format: p.format, cfg: &p.cfg, counts: &p.counts,
		in:    bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), timed), 64<<10),
		asked: map[uint64]chan *engine.Result{}, serving: map[uint64]served{}, parts: map[uint64]*bytes.Buffer{},
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
	s.queue = queue{}
	close(s.done)
	_ = s.conn.Close() // the first error is the one to tell
	for _, answer := range s.asked {
		close(answer)
	}
	for _, x := range s.serving {
		x.cancel()
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

// read waits for a whole frame.
func (s *stream) read() (*frame, error) {
	for {
		f, err := s.readOne()
		if err != nil || f.Piece == nil {
			return f, err
		}
		data, err := s.join(f.Piece)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		f = &frame{}
		if err := s.format.get(f, data); err != nil {
			return nil, err
		}
		if f.Piece != nil {
			return nil, errMalformed
		}
		return f, nil
	}
}

func (s *stream) readOne() (*frame, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > s.cfg.FrameLimit {
		return nil, s.tooLong(n)
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

func (s *stream) tooLong(n int) error {
	return fmt.Errorf("a frame of %d bytes came, and the limit is %d", n, s.cfg.FrameLimit)
}

// join adds a piece to its frame and returns that when it is whole.
func (s *stream) join(p *piece) ([]byte, error) {
	b := s.parts[p.ID]
	if b == nil {
		if len(s.parts) >= maxParts {
			return nil, errMalformed
		}
		b = &bytes.Buffer{}
		s.parts[p.ID] = b
	}
	if len(p.Data) == 0 || p.Left < 0 {
		return nil, errMalformed
	}
	if n := b.Len() + len(p.Data); p.Left > s.cfg.FrameLimit-n {
		return nil, s.tooLong(n + p.Left)
	}
	if s.parted += len(p.Data); s.parted > partsFactor*s.cfg.QueueLimit {
		return nil, fmt.Errorf("%d bytes of frames came that are not whole", s.parted)
	}
	b.Write(p.Data)
	if p.Left > 0 {
		return nil, nil
	}
	delete(s.parts, p.ID)
	s.parted -= b.Len()
	return b.Bytes(), nil
}

// send queues f, in its lane. It does not block. The error says that f is too
// large, or that the stream is broken.
func (s *stream) send(f *frame) error {
	lane := ""
	if f.Note != nil {
		lane = noteLane(f.Note)
	}
	s.mu.Lock()
	err := s.put(f, lane)
	s.mu.Unlock()
	return s.sent(err)
}

// sent ends what began with put, without the lock.
func (s *stream) sent(err error) error {
	if errors.Is(err, errQueueFull) {
		s.fail(err)
	}
	return err
}

// put is send for those who hold the lock; they go on with sent.
func (s *stream) put(f *frame, lane string) error {
	if s.err != nil {
		return s.err
	}
	first := s.queue.empty()
	if err := s.queue.add(s.format, f, lane, s.cfg.FrameLimit, s.room()); err != nil {
		return &tooLargeError{err}
	}
	s.counts.framesOut.Add(1)
	if s.overfull() {
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

// room is how much of one lane may wait before its ops are held back.
func (s *stream) room() int { return s.cfg.QueueLimit / appShare }

// overfull tells that too much waits for an end that reads nothing. One that
// reads, on a slow link, may have twice as much.
func (s *stream) overfull() bool {
	n := s.queue.waiting + s.writing
	if n <= s.cfg.QueueLimit {
		return false
	}
	stuck := s.writing > 0 && time.Since(s.moved) > s.cfg.Silence/2
	return stuck || n > 2*s.cfg.QueueLimit
}

type tooLargeError struct{ error }

// write is the only writer.
func (s *stream) write() {
	beat := time.NewTicker(s.cfg.Silence / 4)
	defer beat.Stop()
	var spare []byte
	for {
		select {
		case <-s.done:
			return
		case <-beat.C:
			s.mu.Lock()
			if !s.wrote && s.err == nil {
				s.queue.live()
			}
			s.wrote = false
			s.mu.Unlock()
		case <-s.wake:
			// Let those who are about to send do so first: one system call for all.
			runtime.Gosched()
			s.mu.Lock()
			s.wrote = true
			s.mu.Unlock()
		}
		for more := true; more; {
			var b []byte
			b, more = s.turn(spare)
			if err := s.flush(b); err != nil {
				s.fail(err)
				return
			}
			if spare = b; cap(spare) > keepSize {
				spare = nil
			}
		}
	}
}

// turn takes what is to be written next, and tells whether it left something:
// else the next frame wakes the writer.
func (s *stream) turn(spare []byte) (b []byte, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, false
	}
	b = s.queue.turn(s.format, spare, s.pieces, func(l *lane) {
		s.queue.refill(s.format, l, s.cfg.FrameLimit, s.room(), s.refuse)
	})
	s.writing, s.moved = len(b), time.Now()
	return b, len(s.queue.turns) > 0
}

// refuse answers an op that turns out to be too large when its turn has come.
func (s *stream) refuse(f *frame, err error) {
	if answer := s.asked[f.Seq]; answer != nil {
		delete(s.asked, f.Seq)
		answer <- tooLarge(err) // there is room for one
	}
}

func tooLarge(err error) *engine.Result {
	return &engine.Result{Err: kar.Errorf(kar.CodeTooLarge, "the request cannot go to the gateway that has to decide: %v", err)}
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
		s.mu.Lock()
		s.writing, s.moved = len(b), time.Now()
		s.mu.Unlock()
	}
	return nil
}

// ask is the dialler's question.
func (s *stream) ask(ctx context.Context, op *engine.Op) (*engine.Result, error) {
	answer := make(chan *engine.Result, 1)
	s.mu.Lock()
	s.seq++
	seq := s.seq
	lane := s.queue.laneOf(op)
	err := s.put(&frame{Seq: seq, Op: op}, lane)
	if err == nil {
		s.asked[seq] = answer
	}
	s.mu.Unlock()
	if err := s.sent(err); err != nil {
		if large := (*tooLargeError)(nil); errors.As(err, &large) {
			return tooLarge(large.error), nil
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
		if !s.queue.withdraw(lane, seq) {
			err = s.put(&frame{Seq: seq, Cancel: true}, lane)
		}
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
		lane, _ := about(f.Op)
		if err := s.open(f.Seq, served{cancel, lane}); err != nil {
			cancel()
			return err
		}
		h.Serve(ctx, s.node, f.Op, func(r *engine.Result) { s.reply(f.Seq, r) })
	case f.Cancel:
		s.mu.Lock()
		x := s.serving[f.Seq]
		delete(s.serving, f.Seq)
		s.mu.Unlock()
		if x.cancel != nil { // nil: answered meanwhile
			x.cancel()
		}
	case f.Note != nil:
		h.Heard(s.node, f.Note)
	}
	return nil
}

// open remembers how to end an op.
func (s *stream) open(seq uint64, x served) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving[seq].cancel != nil {
		return errOrder
	}
	if s.err == nil {
		s.serving[seq] = x
	}
	return s.err
}

// reply sends the first answer; nobody waits for one that was cancelled. A large
// one for which its lane has no room is lost, and asked for again.
func (s *stream) reply(seq uint64, r *engine.Result) {
	s.mu.Lock()
	var err error
	if x, waits := s.serving[seq]; waits {
		delete(s.serving, seq)
		if x.lane == "" && size(r) > pieceSize {
			x.lane = noApp
		}
		if s.queue.behind(x.lane) >= s.room() && size(r) > pieceSize {
			r = &engine.Result{Err: kar.Errorf(kar.CodeAskAgain, "answers of %d MB wait for the gateway that asks", s.room()>>20)}
		}
		err = s.put(&frame{Seq: seq, Result: r}, x.lane)
		if large := (*tooLargeError)(nil); errors.As(err, &large) {
			err = s.put(&frame{Seq: seq, Result: &engine.Result{
				Err: kar.Errorf(kar.CodeResultTooLarge, "the answer cannot go to the gateway that asks: %v", large.error),
			}}, x.lane)
		}
	}
	s.mu.Unlock()
	_ = s.sent(err) // the stream is broken, the asker knows
}

// size is about how long an answer is.
func size(r *engine.Result) int {
	n := len(r.Value)
	if r.Outcome != nil {
		n += len(r.Outcome.Body)
	}
	if r.State != nil {
		n += len(r.State.Value)
	}
	return n
}

func again(node string, err error) error {
	return kar.Errorf(kar.CodeAskAgain, "the gateway %s did not answer: %v", node, err)
}
