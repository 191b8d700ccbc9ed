package runtime

import (
	"bytes"
	"slices"
)

// An idWindow remembers the ids of ended requests by the time in the id, so
// that a repeat is never run again. An id older than half of the window is not
// accepted as new, so forgetting by creation time is safe whenever the request
// ended. Each id costs 16 bytes once its bucket is merged.
type idWindow struct {
	buckets map[int64]*idBucket // by creation time / idBucketMillis
	looked  fading[*idBucket]   // the same by when they were looked at last
	count   int
}

const (
	idBucketMillis = 10_000
	idRecent       = 2048 // ids in a bucket's map before they become a sorted run
)

type idBucket struct {
	node
	slot   int64
	recent map[ID]struct{}
	runs   [][]ID // sorted, of falling size
	added  int64  // when the last one came, by the clock that does not jump
	left   []ID   // still to be kept anew
	moving moving
}

func (w *idWindow) has(id ID) bool {
	b := w.buckets[id.Millis()/idBucketMillis]
	if b == nil {
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
	slot := id.Millis() / idBucketMillis
	b := w.buckets[slot]
	if b == nil {
		b = &idBucket{slot: slot, recent: map[ID]struct{}{}}
		w.buckets[slot] = b
		w.looked.add(b, c.now.Mono)
	}
	if !b.listed() {
		c.keep.place(&b.node, seq, b)
	}
	b.recent[id] = struct{}{}
	b.added = c.now.Mono
	w.count++
	if len(b.recent) >= idRecent {
		b.merge()
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
//
// Buckets are looked at in turn, some at a time: events from the past of a topic
// have ids of any age, and make one for each ten seconds of it.
func (w *idWindow) prune(c *Core, before int64) {
	w.looked.forget(c.now.Mono-c.cfg.IDWindow/64, func(b *idBucket, _ int64) {
		if (b.slot+1)*idBucketMillis >= before || c.now.Mono-b.added <= c.cfg.IDWindow {
			w.looked.add(b, c.now.Mono)
			return
		}
		for _, r := range b.runs {
			w.count -= len(r)
		}
		w.count -= len(b.recent)
		c.keep.remove(&b.node)
		c.keep.remove(&b.moving.node)
		delete(w.buckets, b.slot)
	})
}
