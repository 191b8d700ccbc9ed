package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Places tell at which offset of the log a record stands: runs of records that
// follow each other in both counts.
type places struct {
	mu   sync.Mutex
	runs []place
}

type place struct{ seq, offset uint64 }

// add notes where the next record stands.
func (p *places) add(seq, offset uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.runs); n > 0 && p.runs[n-1].offset+seq-p.runs[n-1].seq == offset {
		return
	}
	p.runs = append(p.runs, place{seq, offset})
}

func (p *places) of(seq uint64) (offset uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].seq > seq }) - 1
	if i < 0 {
		return 0
	}
	return p.runs[i].offset + seq - p.runs[i].seq
}

// cut forgets what lies in front of a record.
func (p *places) cut(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.runs) > 1 && p.runs[1].seq <= seq {
		p.runs = p.runs[1:]
	}
}

// A bodyReader reads bodies back from the log of a partition, beside its loop:
// what is wanted together in one pass.
type bodyReader struct {
	p *partition

	mu     sync.Mutex
	wanted []wantedBody
	busy   bool
}

type wantedBody struct {
	id         runtime.ID
	at, offset uint64
	places     *places
}

// want asks for a body; the answer is an input of the partition. A read that
// fails is tried again for as long as this node lives; after the term nobody
// heeds it.
func (r *bodyReader) want(id runtime.ID, at uint64, in *places) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = append(r.wanted, wantedBody{id: id, at: at, places: in})
	if !r.busy {
		r.busy = true
		r.p.m.watches.Go(r.run)
	}
}

func (r *bodyReader) take() []wantedBody {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.wanted
	r.wanted = nil
	r.busy = len(all) > 0
	return all
}

const (
	bodyRetry = time.Second
	// bodyGap is how many records are read over rather than begin to read anew.
	bodyGap = 200
)

func (r *bodyReader) run() {
	for all := r.take(); len(all) > 0; all = r.take() {
		for i := range all {
			all[i].offset = all[i].places.of(all[i].at)
		}
		slices.SortFunc(all, func(a, b wantedBody) int { return cmp.Compare(a.offset, b.offset) })
		for len(all) > 0 {
			rest, err := r.pass(r.p.m.life, all)
			if err == nil && len(rest) < len(all) {
				all = rest
				continue
			}
			if r.p.m.life.Err() != nil {
				return
			}
			r.p.logger.Warn("bodies of waiting requests cannot be read, trying again", "error", err)
			if !pauseFor(r.p.m.life, bodyRetry) {
				return
			}
		}
	}
}

// pass reads the log from the first wanted record on and reports what is left.
func (r *bodyReader) pass(ctx context.Context, wanted []wantedBody) (rest []wantedBody, err error) {
	enough := errors.New("enough")
	missing := 0
	err = r.p.log.Read(ctx, wanted[0].offset, func(offset uint64, b []byte) error {
		for len(wanted) > 0 && wanted[0].offset <= offset {
			w := wanted[0]
			wanted = wanted[1:]
			body, found := []byte(nil), false
			if w.offset == offset {
				body, found = runtime.BodyIn(b, w.id, w.at)
			}
			if !found {
				missing++
			}
			r.p.push(&runtime.BodyRead{ID: w.id, At: w.at, Body: body, Found: found})
		}
		if len(wanted) == 0 || wanted[0].offset > offset+bodyGap {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	if missing > 0 { // kept anew meanwhile; else this must not be a hot loop
		pauseFor(ctx, bodyRetry/10)
	}
	return wanted, err
}
