package doors

import (
	"io"
	"net/http"
	"time"
)

const (
	// slow is how long a client may take before anything moves, and perByte
	// what it gets on top for each byte: 16 KiB/s are always enough.
	slow    = 30 * time.Second
	perByte = time.Second / (16 << 10)
	// brief is how long strangers have to take a refusal, and everybody to send the
	// rest of a body that nobody wants; visit is for what strangers may ask.
	brief = 2 * time.Second
	visit = 10 * time.Second
)

// patient gives the bodies of requests and answers as much time as they have
// bytes. A request may wait for its outcome as long as it likes.
func patient(w http.ResponseWriter, r *http.Request, next http.Handler) {
	out := &slowWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	if r.ProtoMajor == 1 && r.Header["Expect"] != nil { // net/http writes before we do
		_ = out.control.SetWriteDeadline(time.Time{}) // that of the request before is over
	}
	if r.Body != nil && r.Body != http.NoBody {
		in := &slowBody{ReadCloser: r.Body, control: out.control, until: time.Now().Add(slow)}
		_ = in.control.SetReadDeadline(in.until)
		defer in.leave()
		copied := *r // net/http looks at the body of its own
		copied.Body = in
		r = &copied
	}
	next.ServeHTTP(out, r)
}

// slowBody is the body of a request that must go on coming. Errors of setting a
// deadline are those of a connection that has ended, or of a test's recorder.
type slowBody struct {
	io.ReadCloser
	control *http.ResponseController
	until   time.Time
	unsaid  time.Duration // by which until is later than the deadline that was set
	ended   bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	more := time.Duration(n) * perByte
	b.until, b.unsaid = b.until.Add(more), b.unsaid+more
	switch {
	case b.ended:
	case err == io.EOF: //nolint:errorlint // never wrapped
		_ = b.control.SetReadDeadline(time.Time{}) // net/http goes on to watch for the client's end
	case b.unsaid >= time.Second: // what is less is not worth a look at the timer
		_ = b.control.SetReadDeadline(b.until)
		b.unsaid = 0
	}
	b.ended = b.ended || err != nil
	return n, err
}

// leave is for bodies that nobody wanted: net/http reads some of the rest. One
// that broke off has a deadline that is over.
func (b *slowBody) leave() {
	if !b.ended {
		_ = b.control.SetReadDeadline(time.Now().Add(brief))
	}
}

// slowWriter is an answer that must go on being taken.
type slowWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	room    int // bytes for which the time that was last given is enough
}

// piece is how much may be written for one look at the clock.
const piece = 64 << 10

// Unwrap is for [http.ResponseController] and those who take the connection over.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *slowWriter) WriteHeader(status int) {
	w.extend(0)
	w.ResponseWriter.WriteHeader(status)
}

func (w *slowWriter) Write(b []byte) (int, error) {
	w.extend(len(b))
	return w.ResponseWriter.Write(b)
}

func (w *slowWriter) extend(n int) {
	if w.room -= n; w.room > 0 {
		return
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(slow + time.Duration(n)*perByte))
	w.room = piece
}

// Strangers is for what stands beside the guard: whoever asks is asked for a
// proof there, and gets little time until then.
func Strangers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { stranger(w, r, visit, next.ServeHTTP) })
}

// stranger serves a request of which nobody knows who sent it: a few at once on
// a connection, each for a short time, so that they cost next to nothing however
// many there are and whatever they do.
func stranger(w http.ResponseWriter, r *http.Request, limit time.Duration, serve http.HandlerFunc) {
	c := connectionOf(r.Context())
	if !c.visit(1) {
		panic(http.ErrAbortHandler) // an answer would be one more thing that waits
	}
	defer c.visit(-1)
	control, now := http.NewResponseController(w), time.Now()
	_ = control.SetReadDeadline(now.Add(limit)) // net/http reads what is left of a body first
	_ = control.SetWriteDeadline(now.Add(limit + brief))
	serve(w, r)
}
