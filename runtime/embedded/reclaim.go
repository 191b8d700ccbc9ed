package embedded

import (
	"context"
	"errors"
	"time"
)

// reclaimPause is how long a disk that has no room for the deletion itself is left
// alone, and patientPause how long one on which only compactions find none.
const (
	reclaimPause = 500 * time.Millisecond
	patientPause = 10 * time.Second
	// reclaimTries is how many compactions are tried with the room of the reserve.
	reclaimTries = 5
)

// A span is events that were deleted: those of a topic before an offset, which are
// never written again.
type span struct {
	topic uint64
	end   int64
}

// free asks for the room of what was deleted.
func (t *topics) free(deleted []span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.room.use()
	t.freed = append(t.freed, deleted...)
	select {
	case t.deleted <- struct{}{}:
	default:
	}
}

// reclaim gives the room of deleted events back, which Pebble would do only after
// more has been written. What it needs for that on a full disk is in the reserve.
func (t *topics) reclaim(ctx context.Context) {
	for {
		select {
		case <-t.deleted:
		case <-ctx.Done():
			return
		}
		for tries := 0; ; {
			pause := reclaimPause
			if t.giveBack(ctx) != nil {
				t.room.release()
			} else if t.tidy(ctx) == nil {
				break
			} else if tries++; tries < reclaimTries {
				t.room.release()
			} else {
				t.reclaimed() // the next deletion needs it more
				pause = patientPause
			}
			select {
			case <-t.deleted:
				t.room.use()
				tries = 0
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
		t.reclaimed()
	}
}

// reclaimed takes the room back for the next deletion, unless there is one already.
func (t *topics) reclaimed() {
	t.mu.Lock()
	if len(t.deleted) == 0 {
		t.room.used()
	}
	t.mu.Unlock()
	t.room.fill()
}

// giveBack drops the deleted events from the journal and from the tables of the view,
// which needs only the room for what is in memory.
func (t *topics) giveBack(ctx context.Context) error {
	t.mu.Lock()
	freed := t.freed
	t.freed = nil
	t.mu.Unlock()
	applied, err := number(t.view.DB, []byte{journalKey}) // before the flush, which then holds it
	if err == nil {
		err = t.flushAlone(ctx)
	}
	if err == nil {
		err = errors.Join(t.journal.promise(applied), t.journal.Trim(ctx, applied))
	}
	for err == nil && len(freed) > 0 {
		if err = t.view.drop(ctx, eventAt(freed[0].topic, 0), eventAt(freed[0].topic, freed[0].end)); err == nil {
			freed = freed[1:]
		}
	}
	t.mu.Lock()
	t.freed = append(freed, t.freed...)
	t.mu.Unlock()
	return err
}

// tidy compacts what is left of tables that held deleted events too, and so keeps
// their files. Each has come from memory, with the positions of then in it.
func (t *topics) tidy(ctx context.Context) error {
	for _, key := range []byte{appliedKey, journalKey} {
		if err := t.view.compact(ctx, []byte{key}, []byte{key + 1}); err != nil {
			return err
		}
	}
	return nil
}

// flushAlone lets no compaction begin meanwhile, which might take the room.
func (t *topics) flushAlone(ctx context.Context) error {
	defer t.view.later.hold()()
	return t.view.flush(ctx)
}
