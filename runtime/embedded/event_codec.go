package embedded

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/karmesh/kar/runtime"
)

// Operations in the journal of the topics: a byte, the name, and for publish
// the event. Byte strings and lists carry their length as a uvarint in front.
const (
	opCreate  = 1
	opDelete  = 2
	opPublish = 3
)

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func encodeOp(op byte, topic string, event []byte) []byte {
	b := make([]byte, 0, 1+2+len(topic)+len(event))
	return append(appendBytes(append(b, op), topic), event...)
}

func decodeOp(b []byte) (op byte, topic string, event []byte, ok bool) {
	if len(b) == 0 {
		return 0, "", nil, false
	}
	r := reader{b: b[1:]}
	name := r.bytes()
	return b[0], string(name), r.b, !r.bad && b[0] >= opCreate && b[0] <= opPublish
}

// encodeEvent writes key, header (names sorted) and body.
func encodeEvent(e runtime.Event) []byte {
	b := make([]byte, 0, 16+len(e.Key)+len(e.Body))
	b = appendBytes(b, e.Key)
	b = binary.AppendUvarint(b, uint64(len(e.Header)))
	for _, name := range slices.Sorted(maps.Keys(e.Header)) {
		b = appendBytes(b, name)
		b = binary.AppendUvarint(b, uint64(len(e.Header[name])))
		for _, v := range e.Header[name] {
			b = appendBytes(b, v)
		}
	}
	return appendBytes(b, e.Body)
}

func decodeEvent(b []byte, offset int64) (runtime.Event, bool) {
	r := reader{b: b}
	e := runtime.Event{Offset: offset, Key: slices.Clone(r.bytes())}
	for n := r.number(); n > 0 && !r.bad; n-- {
		if e.Header == nil {
			e.Header = runtime.Header{}
		}
		name := string(r.bytes())
		values := []string{}
		for m := r.number(); m > 0 && !r.bad; m-- {
			values = append(values, string(r.bytes()))
		}
		e.Header[name] = values
	}
	e.Body = slices.Clone(r.bytes())
	return e, !r.bad && len(r.b) == 0
}

// A reader takes values off the front of b; bad once something did not fit.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	n, used := binary.Uvarint(r.b)
	if used <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[used:]
	return n
}

func (r *reader) bytes() []byte {
	n := r.number()
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}
