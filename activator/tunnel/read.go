package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/coder/websocket"
)

// Read waits for the next message before Run. The stream breaks when ctx ends first.
func (c *Conn) Read(ctx context.Context) (Message, error) {
	defer c.within(ctx)()
	return c.next()
}

// within breaks the stream when ctx ends before the returned function is
// called. The WebSocket is never given a ctx: it would keep it beyond the call
// for the rest of a message.
func (c *Conn) within(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
}

// next waits for a message; one goroutine reads.
func (c *Conn) next() (Message, error) {
	for {
		b, err := c.frame()
		if err != nil {
			return nil, err
		}
		if b, err = c.join(b); err != nil || b == nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		m, err := decode(b)
		if err != nil {
			return nil, err
		}
		if m != nil {
			return m, nil
		}
	}
}

// frame reads one frame into memory of its own.
func (c *Conn) frame() ([]byte, error) {
	for {
		if c.frames == nil {
			kind, r, err := c.ws.Reader(context.Background())
			if err != nil {
				return nil, err
			}
			if kind != websocket.MessageBinary {
				return nil, fmt.Errorf("tunnel: a text message on a stream of binary ones")
			}
			c.frames = r
			c.in.Reset(r)
		}
		n, err := binary.ReadUvarint(c.in)
		if errors.Is(err, io.EOF) {
			c.frames = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 || n > maxFrame {
			return nil, errMalformed
		}
		b := make([]byte, n)
		_, err = io.ReadFull(c.in, b)
		return b, err
	}
}

// join collects pieces; it returns nil until a message is whole.
func (c *Conn) join(b []byte) ([]byte, error) {
	if b[0] != kindFirstPiece && b[0] != kindPiece {
		return b, nil
	}
	id, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return nil, errMalformed
	}
	rest := b[1+n:]
	p := c.parts[id]
	if b[0] == kindFirstPiece {
		total, m := binary.Uvarint(rest)
		if m <= 0 || p != nil || len(c.parts) >= inFlight {
			return nil, errMalformed
		}
		if total > uint64(c.limits.Message) {
			return nil, fmt.Errorf("tunnel: a message of %d bytes is over the limit of %d", total, c.limits.Message)
		}
		rest = rest[m:]
		p = &partial{total: int(total), data: make([]byte, 0, min(int(total), 2*pieceSize))}
		c.parts[id] = p
	}
	if p == nil || len(p.data)+len(rest) > p.total {
		return nil, errMalformed
	}
	if need := len(p.data) + len(rest); need > cap(p.data) { // memory comes with the bytes, not with the promise of them
		p.data = append(make([]byte, 0, min(p.total, 4*need)), p.data...)
	}
	p.data = append(p.data, rest...)
	if len(p.data) < p.total {
		return nil, nil
	}
	delete(c.parts, id)
	if len(p.data) == 0 {
		return nil, errMalformed
	}
	return p.data, nil
}
