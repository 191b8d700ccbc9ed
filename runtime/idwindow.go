package runtime

import (
	"bytes"
	"slices"
)

// An idWindow remembers the ids of ended requests by the time in the id, so
// that a repeat is never run again. An id older than half of the window is not
// accepted as new, so forgetting by creation time is safe whenever the request
// ended. Each id costs 16 bytes once its bucket is merged.
//
// Events from the past of a topic have ids of any age. What is older than the window
// when it comes is remembered by the time at which it came, so that there are few
// buckets whatever the ids say. (Who reads a log knows no time; its owner does.)
type idWindow struct {
	buckets map[int64]*idBucket // by creation time / idBucketMillis
	late    []*idBucket         // oldest first
	count   int
}

const (
	idBucketMillis = 10_000
	idRecent       = 2048 // ids in a bucket's map before they become a sorted run
	// lateBuckets is into how many the window is cut for what comes late.
	lateBuckets = 60
)

type idBucket struct {
	node
	slot           int64 // by creation time
	recent         map[ID]struct{}
	runs           [][]ID // sorted, of falling size
	began          int64  // of one for what comes late: when the first one came; 0 for others
	added          int64  // when the last one came, by the clock that does not jump
	left           []ID   // still to be kept anew
	moving         moving
	oldest, newest int64 // times of its ids
}

func (w *idWindow) has(id ID) bool {
	if b := w.buckets[id.Millis()/idBucketMillis]; b != nil && b.has(id) {
		return true
	}
	for _, b := range w.late {
		if b.has(id) {
			return true
		}
	}
	return false
}

func (b *idBucket) has(id ID) bool {
	if at := id.Millis(); at < b.oldest || at > b.newest {
		return false
	}
	if _, ok := b.recent[id]; ok {
		return true
	}
	for _, r := range b.runs {
		if _, ok := slices.BinarySearchFunc(r, id, compareIDs); ok {
			return true
		}
	}
	return false
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }

// add remembers an id; seq is the record that says so, which must stay in the
// log until the bucket has been kept anew.
func (w *idWindow) add(c *Core, id ID, seq uint64) {
	if w.has(id) {
		return
	}
	b := w.bucket(c, id)
	if !b.listed() {
		c.keep.place(&b.node, seq, b)
	}
	b.added = c.now.Mono
	b.put(id)
	w.count++
}

// bucket is where an id belongs that comes now.
func (w *idWindow) bucket(c *Core, id ID) *idBucket {
	if c.owned && id.Millis() < c.now.Wall-c.cfg.IDWindow {
		n := len(w.late)
		if n == 0 || c.now.Mono-w.late[n-1].began > c.cfg.IDWindow/lateBuckets {
			w.late = append(w.late, &idBucket{began: c.now.Mono, recent: map[ID]struct{}{}})
			n++
		}
		return w.late[n-1]
	}
	slot := id.Millis() / idBucketMillis
	b := w.buckets[slot]
	if b == nil {
		b = &idBucket{slot: slot, recent: map[ID]struct{}{}}
		w.buckets[slot] = b
	}
	return b
}

func (b *idBucket) put(id ID) {
	at := id.Millis()
	if len(b.recent) == 0 && len(b.runs) == 0 {
		b.oldest, b.newest = at, at
	}
	b.oldest, b.newest = min(b.oldest, at), max(b.newest, at)
	if b.recent[id] = struct{}{}; len(b.recent) >= idRecent {
		b.merge()
	}
}

// own begins a term: all that the log told comes now.
func (w *idWindow) own(c *Core) {
	var late *idBucket
	for n := c.keep.live.first; n != nil; {
		b, ok := n.owner.(*idBucket)
		n = n.next
		if !ok {
			continue
		}
		b.added = c.now.Mono
		if b.newest >= c.now.Wall-c.cfg.IDWindow {
			continue
		}
		delete(w.buckets, b.slot)
		if late == nil {
			late, b.began = b, c.now.Mono
			w.late = append(w.late, b)
			continue
		}
		for _, id := range b.all() {
			late.put(id)
		}
		c.keep.remove(&b.node)
	}
}

// merge turns the map into a run and joins runs of like size.
func (b *idBucket) merge() {
	run := make([]ID, 0, len(b.recent))
	for id := range b.recent {
		run = append(run, id)
	}
	slices.SortFunc(run, compareIDs)
	b.recent = map[ID]struct{}{}
	for n := len(b.runs); n > 0 && len(b.runs[n-1]) <= 2*len(run); n = len(b.runs) {
		run = mergeRuns(b.runs[n-1], run)
		b.runs = b.runs[:n-1]
	}
	b.runs = append(b.runs, run)
}

func mergeRuns(a, b []ID) []ID {
	out := make([]ID, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if compareIDs(a[0], b[0]) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

func (b *idBucket) all() []ID {
	if len(b.recent) > 0 {
		b.merge()
	}
	var ids []ID
	for _, r := range b.runs {
		ids = append(ids, r...)
	}
	return ids
}

// prune forgets buckets whose ids were all made before and came long ago. The
// second keeps them when the wall clock is set forward for a while: once it is
// set back, a repeat is young enough to be taken for new again.
func (w *idWindow) prune(c *Core, before int64) {
	for _, b := range w.buckets { // in any order
		if (b.slot+1)*idBucketMillis < before && c.now.Mono-b.added > c.cfg.IDWindow {
			delete(w.buckets, b.slot)
			w.drop(c, b)
		}
	}
	for len(w.late) > 0 && c.now.Mono-w.late[0].added > c.cfg.IDWindow {
		w.drop(c, w.late[0])
		w.late[0] = nil
		w.late = w.late[1:]
	}
}

func (w *idWindow) drop(c *Core, b *idBucket) {
	for _, r := range b.runs {
		w.count -= len(r)
	}
	w.count -= len(b.recent)
	c.keep.remove(&b.node)
	c.keep.remove(&b.moving.node)
}

// forgotten is for a claim: what was made before that time may have ended, and owners
// so far may have forgotten it though the window of the one that claims is longer. The
// window of the owner before says it, with half of it to spare for clocks that differ;
// where the log does not know that window, what was made behind the header with which
// it begins is remembered, if it was ever cut.
//
// It never lies behind the claim, so a clock that was wrong once does no harm for long.
func (c *Core) forgotten(now Now) int64 {
	at := c.youngest
	switch {
	case c.window == 0:
		at = max(at, c.headAt)
	case c.window < c.cfg.IDWindow:
		at = max(at, now.Wall-c.window/2)
	}
	return min(at, now.Wall)
}
