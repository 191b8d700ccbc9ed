package activator

import (
	"io"
	"net/http"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// recorder is the [http.ResponseWriter] of a request that came over a tunnel.
type recorder struct {
	header http.Header
	status int
	body   []byte
	limit  int
	over   bool
}

func (w *recorder) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header, 4)
	}
	return w.header
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// answerLimit is how large an answer of the gateway itself may be whatever the body
// limit is, since many values make one answer: the state of an actor, and lists. It is
// half of what may wait for a host and of what a host takes.
const answerLimit = 32 << 20

// Write keeps b, but not without end.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.body == nil {
		// Most handlers write once and not again; what they wrote is theirs.
		w.body = append(make([]byte, 0, len(b)), b...)
		return len(b), nil
	}
	if len(w.body)+len(b) > w.limit+headRoom/2 {
		w.over = true
		return 0, io.ErrShortWrite
	}
	w.body = append(w.body, b...)
	return len(b), nil
}

// Flush does nothing: answers travel whole.
func (w *recorder) Flush() {}

func (w *recorder) fail(e *runtime.Error) {
	o := e.Outcome()
	w.header = http.Header(o.Header)
	w.header.Set("Kar-Error", string(o.Code))
	w.status, w.body, w.over = o.Status, o.Body, false
}

// response is what was written, as a message. A sniffed content type is added
// as net/http would.
func (w *recorder) response(seq uint64) *tunnel.Response {
	if w.over || len(w.body) > w.limit+headRoom/2 {
		w.fail(runtime.Errorf(runtime.CodeResultTooLarge, "the answer is larger than %d bytes", w.limit))
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if len(w.body) > 0 {
		if _, set := w.Header()["Content-Type"]; !set && w.header.Get("Content-Encoding") == "" {
			w.header.Set("Content-Type", http.DetectContentType(w.body))
		}
	}
	return &tunnel.Response{Seq: seq, Status: w.status, Header: runtime.Header(w.header), Body: w.body}
}

// bodyReader is a request body in memory.
type bodyReader struct{ rest []byte }

func (b *bodyReader) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// WriteTo lets [io.Copy] take the body without a buffer.
func (b *bodyReader) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b.rest)
	b.rest = b.rest[n:]
	return int64(n), err
}

func (b *bodyReader) Close() error { return nil }
