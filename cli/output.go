package cli

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
)

// pieceLimit is the length up to which a line is held back to be written
// whole; a longer one is passed on in pieces.
const pieceLimit = 1 << 20

// A prefixer re-emits a command's output as KAR 1.x did with -v info: each
// line of either stream goes to one writer behind time and [STDOUT] or
// [STDERR]. Lines may have any length, and the last one may lack its newline.
type prefixer struct {
	out  io.Writer
	now  func() time.Time
	wait sync.WaitGroup

	mu   sync.Mutex
	open string // label of the stream whose line has not ended yet, "" for none
}

// stream returns the end to give to a command; the reading goroutine ends when
// every copy of that end is closed. wait waits for it.
func (p *prefixer) stream(label string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.wait.Go(func() {
		defer r.Close()
		p.pump(r, label)
	})
	return w, nil
}

// finish returns when all is written, as it would be without a prefix; in haste it
// does not wait for a reader that stands still.
func (p *prefixer) finish(haste bool) {
	done := make(chan struct{})
	go func() {
		p.wait.Wait()
		close(done)
	}()
	var over <-chan time.Time
	if haste {
		over = time.After(lastWords)
	}
	select {
	case <-done:
	case <-over:
	}
}

func (p *prefixer) pump(r io.Reader, label string) {
	buf := make([]byte, 32<<10)
	var line []byte
	for {
		n, err := r.Read(buf)
		for data := buf[:n]; len(data) > 0; {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				i = len(data) - 1
			}
			line = append(line, data[:i+1]...)
			data = data[i+1:]
			if line[len(line)-1] == '\n' || len(line) >= pieceLimit {
				p.emit(label, line)
				line = line[:0]
			}
		}
		if err != nil {
			if len(line) > 0 {
				p.emit(label, line)
			}
			p.endLine(label)
			return
		}
	}
}

// emit writes a line or a piece of one. A long line into which the other
// stream writes is broken there and goes on behind a new prefix.
func (p *prefixer) emit(label string, piece []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b []byte
	if p.open != label {
		if p.open != "" {
			b = append(b, '\n')
		}
		b = append(b, p.now().Format(logTime)+" ["+label+"] "...)
	}
	p.open = label
	if piece[len(piece)-1] == '\n' {
		p.open = ""
	}
	_, _ = p.out.Write(append(b, piece...)) // nobody is left to tell
}

// endLine ends a last line that lacked its newline.
func (p *prefixer) endLine(label string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == label {
		p.open = ""
		_, _ = p.out.Write([]byte{'\n'})
	}
}
