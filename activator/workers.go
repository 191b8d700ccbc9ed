package activator

import (
	"sync"
	"time"
)

// workers runs short tasks on goroutines that are kept for a while: their
// grown stacks are what makes them cheaper than new ones.
type workers struct {
	tasks chan func()
	wait  sync.WaitGroup
}

func newWorkers() *workers { return &workers{tasks: make(chan func())} }

// do runs f on an idle worker, or on a new one.
func (w *workers) do(f func()) {
	select {
	case w.tasks <- f:
	default:
		w.wait.Add(1)
		go w.work(f)
	}
}

func (w *workers) work(f func()) {
	defer w.wait.Done()
	idle := time.NewTimer(time.Second)
	defer idle.Stop()
	for {
		f()
		idle.Reset(time.Second)
		select {
		case f = <-w.tasks:
			if f == nil {
				return
			}
		case <-idle.C:
			return
		}
	}
}

// close waits for all workers; do must not be called any more.
func (w *workers) close() {
	done := make(chan struct{})
	go func() { w.wait.Wait(); close(done) }()
	for {
		select {
		case w.tasks <- nil:
		case <-done:
			return
		}
	}
}
