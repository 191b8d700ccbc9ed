package peer

import (
	"encoding/binary"
	"fmt"
	"reflect"

	"github.com/karmesh/kar/runtime/engine"
)

// A frame is what goes over a stream in one piece, in front of it its length
// in four bytes. An op, its cancel and its result carry the same Seq. A frame
// with nothing in it is a sign of life, and what a later version says in fields
// that are not known here reads as one.
type frame struct {
	Seq    uint64
	Op     *engine.Op
	Cancel bool
	Result *engine.Result
	Note   *engine.Note
	Piece  *piece // of a large frame, to those who say in their hello that they take them
}

const (
	headSize = 4
	// maxFrame is what a length inside of a frame can say.
	maxFrame = 1<<28 - 1
)

// frames is the format of frames; it is safe for concurrent use.
type frames struct{ fields []fieldCoder }

func newFrames() (frames, error) {
	f, err := fieldsOf(reflect.TypeFor[frame](), nil)
	return frames{f}, err
}

// put appends f with its length; when it is above limit b stays as it was.
func (x frames) put(b []byte, f *frame, limit int) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = putFields(x.fields, b, reflect.ValueOf(f).Elem())
	n := len(b) - start - headSize
	if n > limit {
		return b[:start], fmt.Errorf("%d bytes for another gateway, and the limit is %d", n, limit)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(n))
	return b, nil
}

// get reads a frame without its length into f, which is zero. Nothing of f
// points into data.
func (x frames) get(f *frame, data []byte) error {
	return getFields(x.fields, reflect.ValueOf(f).Elem(), data)
}
