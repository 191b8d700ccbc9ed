package embedded

import (
	"context"
	"errors"
	"time"
)

// reclaimPause is how long a disk that has no room for the deletion itself is left alone.
const reclaimPause = 500 * time.Millisecond

// releasePatience is how long a deletion waits for what was before it to find room.
const releasePatience = 5 * time.Second

// reclaim gives the room of deleted events back, which Pebble would do only after
// more has been written. What it needs for that on a full disk is in the reserve.
func (t *topics) reclaim(ctx context.Context) {
	for {
		select {
		case <-t.deleted:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		ids := t.freed
		t.freed = nil
		t.mu.Unlock()
		for t.reclaimOnce(ctx, ids) != nil {
			t.room.release()
			select {
			case <-time.After(reclaimPause):
			case <-ctx.Done():
				return
			}
		}
		t.room.fill()
	}
}

func (t *topics) reclaimOnce(ctx context.Context, ids []uint64) error {
	applied, err := number(t.view.DB, []byte{journalKey}) // before the flush, which then holds it
	if err != nil {
		return err
	}
	if err := t.view.writable(); err != nil {
		return err // one more would take the memory that writes need
	}
	if err := t.view.flush(); err != nil {
		return err
	}
	for _, id := range ids {
		if err := t.view.Compact(ctx, eventAt(id, 0), eventAt(id+1, 0), false); err != nil {
			return err
		}
	}
	return errors.Join(t.journal.promise(applied), t.journal.Trim(ctx, applied))
}
