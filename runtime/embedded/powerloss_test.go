package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/karmesh/kar/runtime"
)

// A ledger is what a run has been told: the least that must be there after a
// power loss, and the most that may be.
type ledger struct {
	acked, tried       int // records of the log; between them lies one append
	events, eventsMade int
	durable, applied   uint64 // of the store
}

// A crash is the disk as one power loss left it, with the ledger of that moment.
type crash struct {
	fs *vfs.MemFS
	ledger
}

// A power takes copies of a memory disk in the middle of operations. Each copy
// has all that was synced and a random part of what was not, in blocks.
type power struct {
	mem   *vfs.MemFS
	every int // about every how many operations a copy is made
	mu    sync.Mutex
	rng   *rand.Rand
	now   ledger
	taken []crash
}

func (p *power) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng.IntN(p.every) == 0 {
		p.taken = append(p.taken, crash{p.lose(), p.now})
	}
	return nil
}

func (p *power) String() string { return "power" }

func (p *power) lose() *vfs.MemFS {
	return p.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 20, 50, 80, 100}[p.rng.IntN(5)], RNG: p.rng})
}

func (p *power) note(change func(*ledger)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.now)
}

func newPower(seed uint64, mem *vfs.MemFS, every int) (*power, Options) {
	p := &power{mem: mem, every: every, rng: rand.New(rand.NewPCG(seed, 1))}
	return p, Options{FS: errorfs.Wrap(mem, p), SegmentBytes: 6 << 10, FailedSync: func(error) {}}
}

// record is what the test appends at an offset: mostly small, at times over a block.
func record(i int) []byte {
	b := fmt.Appendf(nil, "record %d ", i)
	for n := i * 7919 % 97 * (1 + i%50/49*100); len(b) < n; {
		b = append(b, byte(i), byte(i>>8), byte(len(b)))
	}
	return b
}

// work appends, applies, publishes, syncs and trims, and keeps the ledger.
func (p *power) work(t *testing.T, d *Disk, rounds int) {
	t.Helper()
	ctx := t.Context()
	l, _ := d.Log(0)
	s, ts := d.Store(), d.Topics()
	for range rounds {
		var batch [][]byte
		var writes []runtime.Mutation
		n := 1 + p.rngIntN(5)
		for i := range n {
			batch = append(batch, record(p.now.acked+i))
			writes = append(writes, runtime.Mutation{Key: fmt.Appendf(nil, "k%06d", p.now.acked+i), Value: record(p.now.acked + i)})
		}
		from := uint64(p.now.acked)
		p.note(func(l *ledger) { l.tried = l.acked + n })
		if first, _, err := l.Append(ctx, batch); err != nil || first != from {
			t.Fatalf("append = %d, %v; want %d", first, err, from)
		}
		p.note(func(l *ledger) { l.acked = l.tried })
		if applied, err := s.Apply(ctx, 0, from, from+uint64(n), writes); err != nil || applied != from+uint64(n) {
			t.Fatal(applied, err)
		}
		p.note(func(l *ledger) { l.applied = from + uint64(n) })
		switch p.rngIntN(8) {
		case 0, 1, 2:
			p.note(func(l *ledger) { l.eventsMade++ })
			if _, err := ts.Publish(ctx, "t", runtime.Event{Body: record(p.now.events)}); err != nil {
				t.Fatal(err)
			}
			p.note(func(l *ledger) { l.events = l.eventsMade })
		case 3:
			durable, err := s.Sync(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			p.note(func(l *ledger) { l.durable = max(l.durable, durable) })
			if err := l.Trim(ctx, durable); err != nil {
				t.Fatal(err)
			}
			d.topics.trim(d.topicsPosition(t))
		}
	}
}

func (p *power) rngIntN(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.IntN(n)
}

func (d *Disk) topicsPosition(t *testing.T) uint64 {
	n, err := number(d.view.DB, []byte{journalKey})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// check opens a disk after a power loss and holds it against the ledger; it
// returns the disk and the ledger as it is from there on.
func (c crash) check(t *testing.T, o Options) (*Disk, ledger) {
	t.Helper()
	d, err := Open("state", o)
	if err != nil {
		t.Fatalf("open after a power loss at %+v: %v", c.ledger, err)
	}
	l, _ := d.Log(0)
	start, end, err := l.Bounds(t.Context())
	if err != nil || int(end) != c.acked && int(end) != c.tried || start > c.durable {
		t.Fatalf("log from %d to %d, %v; ledger %+v", start, end, err, c.ledger)
	}
	at := start
	if err := l.Read(t.Context(), 0, func(offset uint64, got []byte) error {
		if offset != at || string(got) != string(record(int(at))) {
			return fmt.Errorf("record %d is not what was appended", offset)
		}
		at++
		return nil
	}); err != nil || at != end {
		t.Fatalf("read to %d of %d: %v", at, end, err)
	}
	applied, err := d.Store().Applied(t.Context(), 0)
	if err != nil || applied < c.durable || applied > c.applied+5 || applied < start && applied != 0 {
		t.Fatalf("store at %d, %v; ledger %+v", applied, err, c.ledger)
	}
	if err := d.Store().Read(t.Context(), 0, func(snap runtime.Snapshot) error {
		n := 0
		err := snap.Scan(nil, func(k, v []byte) bool {
			if string(k) != fmt.Sprintf("k%06d", n) || string(v) != string(record(n)) {
				return false
			}
			n++
			return true
		})
		if n != int(applied) {
			err = errors.Join(err, fmt.Errorf("%d entries in a store at %d", n, applied))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_, next, err := d.Topics().Bounds(t.Context(), "t")
	if err != nil || int(next) != c.events && int(next) != c.eventsMade {
		t.Fatalf("topic ends at %d, %v; ledger %+v", next, err, c.ledger)
	}
	for at := int64(0); at < next; {
		got, err := d.Topics().Fetch(t.Context(), "t", at, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got.Events {
			if e.Offset != at || string(e.Body) != string(record(int(at))) {
				t.Fatalf("event %d at %d is not what was published", e.Offset, at)
			}
			at++
		}
	}
	// What the recovery showed is now as good as acknowledged; apply the rest of the log.
	now := ledger{acked: int(end), tried: int(end), events: int(next), eventsMade: int(next), durable: c.durable, applied: end}
	for at := applied; at < end; at++ {
		w := []runtime.Mutation{{Key: fmt.Appendf(nil, "k%06d", at), Value: record(int(at))}}
		if _, err := d.Store().Apply(t.Context(), 0, at, at+1, w); err != nil {
			t.Fatal(err)
		}
	}
	return d, now
}

// TestPowerLoss cuts the power in the middle of many operations, and again in
// the middle of the recoveries and of what follows them.
func TestPowerLoss(t *testing.T) {
	rounds, every := 200, 25
	if testing.Short() {
		rounds = 60
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p, o := newPower(seed, vfs.NewCrashableMem(), every)
			d, err := Open("state", o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Topics().Create(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			p.taken = nil // TestPowerLossAtCreation has these
			p.mu.Unlock()
			p.work(t, d, rounds)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			again := 0
			for i, c := range p.taken {
				q, o := newPower(seed<<32|uint64(i), c.fs, 12)
				q.now = c.ledger
				if q.now.events != q.now.eventsMade || q.now.acked != q.now.tried {
					again++
				}
				d, now := c.check(t, o)
				q.note(func(l *ledger) { *l = now })
				q.work(t, d, 4)
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				for _, c := range q.taken {
					o := o
					o.FS = c.fs
					d, _ := c.check(t, o)
					if err := d.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if len(p.taken) < 20 || again == 0 {
				t.Errorf("only %d power losses, %d of them inside an append: the test proves little", len(p.taken), again)
			}
		})
	}
}

// TestPowerLossAtCreation: a folder that never opened is created anew.
func TestPowerLossAtCreation(t *testing.T) {
	p, o := newPower(1, vfs.NewCrashableMem(), 1)
	d, err := Open("state", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if len(p.taken) < 30 {
		t.Fatalf("only %d power losses", len(p.taken))
	}
	for i, c := range p.taken {
		for range 3 {
			o := o
			o.FS = c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: p.rng})
			d, err := Open("state", o)
			if err != nil {
				t.Fatalf("open after a power loss at operation %d of the creation: %v", i, err)
			}
			l, _ := d.Log(0)
			if _, end, err := l.Bounds(t.Context()); end != 0 || err != nil {
				t.Fatal(end, err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
