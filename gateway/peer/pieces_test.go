package peer

import (
	"bytes"
	"testing"
)

// What comes in pieces has bounds: of one frame, of all that are not whole, and of how
// many those are. Whole ones count no more.
func TestPiecesAreBounded(t *testing.T) {
	begun := func() *stream {
		return &stream{cfg: &Config{FrameLimit: 1000, QueueLimit: 1000}, parts: map[uint64]*bytes.Buffer{}}
	}
	some := make([]byte, 500)
	s := begun()
	for id := range uint64(100) {
		if b, err := s.join(&piece{ID: id, Left: 500, Data: some}); err != nil || b != nil {
			t.Fatal(len(b), err)
		}
		if b, err := s.join(&piece{ID: id, Data: some}); err != nil || len(b) != 1000 {
			t.Fatal(len(b), err)
		}
	}
	if s.parted != 0 || len(s.parts) != 0 {
		t.Errorf("%d bytes of %d frames are left", s.parted, len(s.parts))
	}
	n := 0
	for ; n < 100; n++ {
		if _, err := s.join(&piece{ID: uint64(n), Left: 500, Data: some}); err != nil {
			break
		}
	}
	if n != partsFactor*1000/500 {
		t.Errorf("%d halves of frames were taken", n)
	}
	for what, p := range map[string]*piece{
		"too long as it says": {Left: 600, Data: some},
		"too long":            {Left: 1, Data: make([]byte, 1000)},
		"an overflow":         {Left: 1<<63 - 1, Data: some},
		"nothing":             {Left: 5},
		"less than nothing":   {Left: -1, Data: some},
	} {
		if _, err := begun().join(p); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	s = begun()
	for id := range uint64(maxParts) {
		s.parts[id] = &bytes.Buffer{}
	}
	if _, err := s.join(&piece{ID: maxParts, Left: 1, Data: some}); err == nil {
		t.Error("frames without end are begun")
	}
}
