package engine

import "sync"

// tasks are goroutines that end before Close does. Who comes when it waits for them is
// late: nothing is begun any more.
type tasks struct {
	mu   sync.Mutex
	n    int
	over bool
	none chan struct{} // closed when none is left; nil before Wait
}

// Go begins one; false when it is too late.
func (t *tasks) Go(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.n++
	go func() {
		defer t.end()
		f()
	}()
	return true
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.over {
		close(t.none)
	}
}

// Wait lets nothing begin and waits for what runs. It is called once.
func (t *tasks) Wait() {
	t.mu.Lock()
	t.over, t.none = true, make(chan struct{})
	if t.n == 0 {
		close(t.none)
	}
	t.mu.Unlock()
	<-t.none
}
