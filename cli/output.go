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
	mu   sync.Mutex
	out  io.Writer
	now  func() time.Time
	wait sync.WaitGroup
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

func (p *prefixer) pump(r io.Reader, label string) {
	buf := make([]byte, 32<<10)
	var line []byte
	open := false // the start of the line has been written
	for {
		n, err := r.Read(buf)
		for data := buf[:n]; len(data) > 0; {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				line = append(line, data...)
				data = nil
			} else {
				line = append(line, data[:i+1]...)
				data = data[i+1:]
			}
			if i >= 0 || len(line) >= pieceLimit {
				p.emit(label, line, !open)
				open = i < 0
				line = line[:0]
			}
		}
		if err != nil {
			if len(line) > 0 || open {
				p.emit(label, append(line, '\n'), !open)
			}
			return
		}
	}
}

func (p *prefixer) emit(label string, line []byte, start bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if start {
		line = append([]byte(p.now().Format(logTime)+" ["+label+"] "), line...)
	}
	_, _ = p.out.Write(line) // nobody is left to tell
}
