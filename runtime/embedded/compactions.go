package embedded

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// compactions lets none begin before the view is open: one that runs while the
// opening fails, on a full disk, panics in what Pebble has closed by then. After one
// that failed it lets some time pass, where Pebble would begin the same one again at
// once, and it lets none begin while it is held. Otherwise it does what Pebble's own
// scheduler does.
type compactions struct {
	mu       sync.Mutex
	changed  *sync.Cond // granting has ended
	db       pebble.DBForCompaction
	opened   bool
	closed   bool
	running  int
	granting bool
	again    bool // something has changed since granting began
	resting  bool
	held     int
}

// compactPause is the time between two compactions of which the first failed: what
// they write until they fail takes the room that others need.
const compactPause = time.Second

func newCompactions() *compactions {
	s := &compactions{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// open lets them begin.
func (s *compactions) open() {
	s.mu.Lock()
	s.opened = true
	s.mu.Unlock()
	s.grant()
}

// rest is called when one failed, with Pebble's locks held.
func (s *compactions) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting || s.closed {
		return
	}
	s.resting = true
	time.AfterFunc(compactPause, func() {
		s.mu.Lock()
		s.resting = false
		s.mu.Unlock()
		s.grant()
	})
}

// hold lets none begin until the function that it returns is called.
func (s *compactions) hold() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
	return func() {
		s.mu.Lock()
		s.held--
		s.mu.Unlock()
		s.grant()
	}
}

func (s *compactions) Register(_ int, db pebble.DBForCompaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = db
}

func (s *compactions) Unregister() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.granting {
		s.changed.Wait()
	}
}

// free tells whether one more may run; s.mu is held.
func (s *compactions) free() bool {
	return s.opened && !s.closed && !s.resting && s.held == 0 && s.db != nil && s.running < s.db.GetAllowedWithoutPermission()
}

// TrySchedule is called with Pebble's locks held, which go before ours.
func (s *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.free() {
		return false, nil // Pebble remembers that one waits
	}
	s.running++
	return true, s
}

func (s *compactions) UpdateGetAllowedWithoutPermission() {}

// grant begins what waits. Pebble's locks must not be held, nor may ours be while
// Pebble is called.
func (s *compactions) grant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.granting {
		s.again = true
		return
	}
	s.granting = true
	for s.free() {
		s.again = false
		s.mu.Unlock()
		waits, _ := s.db.GetWaitingCompaction()
		begun := waits && s.db.Schedule(s)
		s.mu.Lock()
		if begun {
			s.running++
		} else if !s.again {
			break
		}
	}
	s.granting = false
	s.changed.Broadcast()
}

// Started, MeasureCPU, CumulativeStats and Done are what Pebble tells of one that runs.
func (s *compactions) Started()                                          {}
func (s *compactions) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (s *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}

func (s *compactions) Done() {
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	s.grant()
}
