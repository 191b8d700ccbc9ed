package tunnel

import (
	"encoding/binary"
	"errors"

	"github.com/karmesh/kar/runtime"
)

// A message is a sequence of fields: a uvarint that is number×2 for a uvarint
// value and number×2+1 for bytes, then the value (bytes after their length).
// Zero values are left out, unknown numbers are skipped, nested structures are
// bytes.

var errMalformed = errors.New("tunnel: malformed message")

func appendUint(b []byte, num int, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(num)<<1)
	return binary.AppendUvarint(b, v)
}

func appendBool(b []byte, num int, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, num, 1)
}

func appendString(b []byte, num int, s string) []byte {
	if s == "" {
		return b
	}
	return append(appendLength(b, num, len(s)), s...)
}

func appendLength(b []byte, num, n int) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<1|1)
	return binary.AppendUvarint(b, uint64(n))
}

func appendID(b []byte, num int, id runtime.ID) []byte {
	if id.IsZero() {
		return b
	}
	return append(appendLength(b, num, len(id)), id[:]...)
}

// appendNested writes what fill appends as one field. An empty structure is
// written too: it may be an element of a list.
func appendNested(b []byte, num int, fill func([]byte) []byte) []byte {
	start := len(b)
	b = fill(b)
	n := len(b) - start
	var lead [2 * binary.MaxVarintLen64]byte
	head := appendLength(lead[:0], num, n)
	b = append(b, head...)
	copy(b[start+len(head):], b[start:start+n])
	copy(b[start:], head)
	return b
}

func appendHeader(b []byte, num int, h runtime.Header) []byte {
	for name, values := range h {
		for _, v := range values {
			n := uvarintLen(uint64(len(name))) + len(name) + len(v)
			b = appendLength(b, num, n)
			b = binary.AppendUvarint(b, uint64(len(name)))
			b = append(b, name...)
			b = append(b, v...)
		}
	}
	return b
}

func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

// A field is one decoded field; data is nil for a uvarint.
type field struct {
	num  int
	v    uint64
	data []byte
}

// fields walks a message. It never panics and reads nothing beyond b.
type fields struct {
	b   []byte
	err error
	hop bool // a field of a connection was among the header's
}

func (f *fields) next() (field, bool) {
	if f.err != nil || len(f.b) == 0 {
		return field{}, false
	}
	tag, n := binary.Uvarint(f.b)
	if n <= 0 || tag>>1 > 1<<20 {
		return f.fail()
	}
	v, m := binary.Uvarint(f.b[n:])
	if m <= 0 {
		return f.fail()
	}
	f.b = f.b[n+m:]
	out := field{num: int(tag >> 1), v: v}
	if tag&1 == 0 {
		return out, true
	}
	if v > uint64(len(f.b)) {
		return f.fail()
	}
	out.data = f.b[:v:v]
	f.b = f.b[v:]
	return out, true
}

func (f *fields) fail() (field, bool) {
	f.err = errMalformed
	return field{}, false
}

func (f *fields) id(data []byte) (id runtime.ID) {
	if len(data) != len(id) {
		f.err = errMalformed
		return id
	}
	copy(id[:], data)
	return id
}

// header adds one field. What the other end sent becomes a header of this end's
// HTTP, so a name is made canonical, and what HTTP cannot carry does not get in.
func (f *fields) header(h runtime.Header, data []byte) runtime.Header {
	n, m := binary.Uvarint(data)
	if m <= 0 || n > uint64(len(data)-m) {
		f.err = errMalformed
		return h
	}
	name, good := word(data[m : m+int(n)])
	if !good {
		if name, good = runtime.FieldName(name); !good {
			return h
		}
		f.hop = f.hop || runtime.HopByHop(name)
	}
	value, good := word(data[m+int(n):])
	if !good {
		value = runtime.FieldValue(value)
	}
	if h == nil {
		h = make(runtime.Header, 6)
	}
	if old := h[name]; old != nil {
		h[name] = append(old, value)
	} else {
		h[name] = []string{value}
	}
	return h
}

// message is h without what belongs to a connection.
func (f *fields) message(h runtime.Header) runtime.Header {
	if f.hop {
		h.DropHopByHop()
	}
	return h
}

// known turns bytes into a string, most words without an allocation.
func known(b []byte) string {
	s, _ := word(b)
	return s
}

// word knows what most messages carry, all of it fit for a header.
func word(b []byte) (s string, is bool) {
	switch string(b) {
	case "Content-Type":
		return "Content-Type", true
	case "Content-Length":
		return "Content-Length", true
	case "Kar-Request-Id":
		return "Kar-Request-Id", true
	case "Kar-Attempt":
		return "Kar-Attempt", true
	case "0":
		return "0", true
	case "Date":
		return "Date", true
	case "Accept":
		return "Accept", true
	case "Accept-Encoding":
		return "Accept-Encoding", true
	case "User-Agent":
		return "User-Agent", true
	case "Pragma":
		return "Pragma", true
	case "application/kar+json":
		return "application/kar+json", true
	case "application/json":
		return "application/json", true
	case "text/plain; charset=utf-8":
		return "text/plain; charset=utf-8", true
	case "POST":
		return "POST", true
	case "GET":
		return "GET", true
	case "PUT":
		return "PUT", true
	case "1":
		return "1", true
	}
	return string(b), false
}
