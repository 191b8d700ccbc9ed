package cli

import (
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// logQueueLimit is how many bytes of lines may wait for whoever reads them.
const logQueueLimit = 1 << 20

// lastWords is how long the lines that still wait at the end of the process may
// take to be read.
const lastWords = time.Second

// A logQueue is the way of lines to a log that others read, or do not: a
// terminal that stands still, a pager, a log driver. Write never waits for them.
// When too much waits, or cannot be written, lines are dropped, and the number of
// them is written in their place when lines can be written again.
type logQueue struct {
	out io.Writer

	mu      sync.Mutex
	waiting []logLine     // the first one may be on its way out
	bytes   int           // of all that wait
	dropped int           // behind the last one that waits
	idle    chan struct{} // closed when all is written; nil when it is
}

type logLine struct {
	text    []byte // may be nil
	dropped int    // in front of it
}

func newLogQueue(out io.Writer) *logQueue { return &logQueue{out: out} }

// Write takes one or more whole lines.
func (q *logQueue) Write(text []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes > 0 && q.bytes+len(text) > logQueueLimit {
		q.dropped++
		return len(text), nil
	}
	q.waiting = append(q.waiting, logLine{append([]byte(nil), text...), q.dropped})
	q.bytes += len(text)
	q.dropped = 0
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.write(q.idle) // ends when all is written
	}
	return len(text), nil
}

// write is the one goroutine that waits for readers.
func (q *logQueue) write(idle chan struct{}) {
	lost := 0
	for {
		line, ok := q.first(&lost)
		if !ok {
			close(idle)
			return
		}
		lost += line.dropped
		if lost > 0 {
			if _, err := q.out.Write(droppedLine(lost)); err == nil {
				lost = 0
			}
		}
		if line.text == nil {
			continue
		}
		if lost > 0 {
			lost++
		} else if _, err := q.out.Write(line.text); err != nil {
			lost = 1
		}
		q.mu.Lock()
		q.waiting[0] = logLine{}
		q.waiting = q.waiting[1:]
		q.bytes -= len(line.text)
		q.mu.Unlock()
	}
}

// first returns the next line, which still counts as waiting; false when there
// is nothing to write. What could not be written is then reported with the next line.
func (q *logQueue) first(lost *int) (logLine, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.waiting) > 0:
		return q.waiting[0], true
	case q.dropped > 0:
		line := logLine{dropped: q.dropped}
		q.dropped = 0
		return line, true
	}
	q.dropped = *lost
	q.waiting, q.idle = nil, nil
	return logLine{}, false
}

func droppedLine(n int) []byte {
	return fmt.Appendf(nil, "%s [WARNING] lines of this log were dropped, since they were not read in time or could not be written lines=%d\n",
		time.Now().Format(logTime), n)
}

// flush waits until all lines are written, or for the limit.
func (q *logQueue) flush(limit time.Duration) {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}

// carriesWork prepares a process on which the work of others depends: it neither
// waits for whoever reads what it says, nor ends when they go.
func (p *program) carriesWork() {
	q := newLogQueue(p.errout)
	p.errout, p.said = q, q
	log.SetOutput(q) // net/http and other libraries say a word now and then
	// Not "ignore": an ignored signal would stay ignored in the command. Nobody
	// needs to receive it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
