package tunnel

import (
	"context"
	"encoding/binary"
	"runtime"
	"time"

	"github.com/coder/websocket"
)

// Write sends one message before Run; it returns when it has been written.
func (c *Conn) Write(ctx context.Context, m Message) error {
	defer c.within(ctx)()
	c.mu.Lock()
	c.queue(m)
	c.mu.Unlock()
	for {
		c.mu.Lock()
		b, n := c.round(nil)
		c.mu.Unlock()
		if n == 0 {
			return nil
		}
		if err := c.ws.Write(context.Background(), websocket.MessageBinary, b); err != nil {
			return err
		}
		c.written(n)
	}
}

// Run writes what is sent and hands each message that arrives to handle, one
// at a time, until the stream breaks or ctx ends. When it returns, nothing of
// the stream runs any more.
func (c *Conn) Run(ctx context.Context, handle func(Message)) error {
	ended := make(chan struct{}, 2)
	defer c.within(ctx)()
	c.mu.Lock()
	c.heard = time.Now()
	c.mu.Unlock()
	go func() { c.write(); ended <- struct{}{} }()
	go func() { c.watch(); ended <- struct{}{} }()
	for {
		m, err := c.next()
		if err != nil {
			c.fail(err)
			break
		}
		if c.limits.Silence > 0 {
			c.mu.Lock()
			c.heard = time.Now()
			c.mu.Unlock()
		}
		handle(m)
	}
	<-ended
	<-ended
	return c.Err()
}

// write is the only writer while Run runs: each turn takes all that waits.
func (c *Conn) write() {
	var spare []byte
	for {
		select {
		case <-c.done:
			return
		case <-c.wake:
		}
		// Let those who are about to send do so first: one system call for all.
		runtime.Gosched()
		for {
			c.mu.Lock()
			b, n := c.round(spare)
			if n > 0 {
				c.wrote = time.Now()
			}
			c.mu.Unlock()
			if n == 0 {
				spare = b
				break
			}
			if err := c.ws.Write(context.Background(), websocket.MessageBinary, b); err != nil {
				c.fail(err)
				return
			}
			c.written(n)
			spare = b[:0]
			if cap(spare) > 1<<20 {
				spare = nil
			}
		}
	}
}

// round takes all small messages and a piece of each large one whose turn it
// is, and how many queued bytes that is. Spare becomes the next queue.
func (c *Conn) round(spare []byte) ([]byte, int) {
	b := c.out
	n := len(b)
	if n == 0 && len(c.large) == 0 {
		return spare, 0
	}
	c.out = spare
	turns := min(len(c.large), inFlight)
	keep := c.large[:0]
	for i, p := range c.large {
		if i < turns {
			var m int
			b, m = p.append(b)
			n += m
			if len(p.head)+len(p.body) == 0 {
				continue
			}
		}
		keep = append(keep, p)
	}
	clear(c.large[len(keep):])
	c.large = keep
	for len(c.last) > 0 && (len(c.large) == 0 || c.large[0].id > c.last[0].after) {
		c.queue(c.last[0].m) // leaves with the next round
		c.last = c.last[1:]
	}
	return b, n
}

// append writes the next piece of p as a frame and returns how much of p that was.
func (p *pieces) append(b []byte) ([]byte, int) {
	start := len(b)
	b = append(b, 0, 0, 0)
	if p.begun {
		b = binary.AppendUvarint(append(b, kindPiece), p.id)
	} else {
		b = binary.AppendUvarint(append(b, kindFirstPiece), p.id)
		b = binary.AppendUvarint(b, uint64(p.total))
		p.begun = true
	}
	h := min(len(p.head), pieceSize)
	b = append(b, p.head[:h]...)
	p.head = p.head[h:]
	d := min(len(p.body), pieceSize-h)
	b = append(b, p.body[:d]...)
	p.body = p.body[d:]
	putLength(b[start:], len(b)-start-3)
	return b, h + d
}

func (c *Conn) written(n int) {
	c.mu.Lock()
	c.queued -= n
	c.wrote = time.Time{}
	if c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
	c.mu.Unlock()
}

// watch breaks a stream that has stopped moving: half-open connections give no error.
func (c *Conn) watch() {
	every := c.limits.Stall / 4
	if s := c.limits.Silence / 4; s > 0 && s < every {
		every = s
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-t.C:
		}
		c.mu.Lock()
		stalled := !c.wrote.IsZero() && time.Since(c.wrote) > c.limits.Stall
		silent := c.limits.Silence > 0 && time.Since(c.heard) > c.limits.Silence
		c.mu.Unlock()
		if stalled {
			c.fail(errStalled)
		}
		if silent {
			c.fail(errSilent)
		}
	}
}
