package runtime

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestViewsOfAnyAge: whatever a reader has found in a store that lags behind, as
// long as it is not too old, each operation answers as if all were in one map.
func TestViewsOfAnyAge(t *testing.T) {
	for seed := range uint64(12) {
		viewsOfAnyAge(t, rand.New(rand.NewPCG(seed, 2)))
	}
}

func viewsOfAnyAge(t *testing.T, rnd *rand.Rand) {
	s := newSolo(t, Config{})
	actors := []Actor{{"dp", "A", "1"}, {"dp", "A", "2"}}
	model := map[Actor]map[string][]byte{actors[0]: {}, actors[1]: {}} // by store key
	store := map[string][]byte{}
	history := map[uint64]map[string][]byte{s.c.Seq(): {}} // what the store had at each position
	seqs := []uint64{s.c.Seq()}
	keys := []string{"a", "b", "m", ""}
	subs := []string{"x", "y", ""}
	field := func() Field {
		f := Field{Key: keys[rnd.IntN(len(keys))]}
		if f.InMap = rnd.IntN(2) == 0; f.InMap {
			f.Sub = subs[rnd.IntN(len(subs))]
		}
		if rnd.IntN(4) > 0 {
			f.Value = []byte(fmt.Sprint(rnd.IntN(100)))
		}
		return f
	}
	for n := range 400 {
		a := actors[rnd.IntN(2)]
		m, prefix := model[a], ActorPrefix(a, 0)
		f := field()
		op := StateOp{Actor: a, Verb: StateVerb(rnd.IntN(8)), Key: f.Key, Sub: f.Sub, InMap: f.InMap, Value: f.Value}
		if op.Verb == StateUpdate {
			for range rnd.IntN(3) {
				op.Sets = append(op.Sets, field())
			}
			for range rnd.IntN(3) {
				op.Removes = append(op.Removes, field())
			}
		}
		at := seqs[rnd.IntN(len(seqs))]
		view := &View{Applied: at, Entries: map[string][]byte{}}
		one, under := StateKeys(&op, 0)
		for _, k := range one {
			if b, ok := history[at][string(k)]; ok {
				view.Entries[string(k)] = b
			}
		}
		if under != nil {
			for k, b := range history[at] {
				if strings.HasPrefix(k, string(under)) {
					view.Entries[k] = b
				}
			}
			if rnd.IntN(2) == 0 {
				view.Prefix = string(under)
			}
		}
		if rnd.IntN(2) == 0 {
			for _, k := range one {
				view.Keys = append(view.Keys, string(k))
			}
		}
		tooOld := at < s.c.view.forgotten
		known := one != nil // in memory
		for _, k := range one {
			g := s.c.view.groups[string(prefix)]
			_, ok := map[string]viewItem{}[""]
			if g != nil {
				_, ok = g.items[string(k)]
			}
			known = known && ok
		}
		e := s.answer(&StateInput{Op: op, View: view, Waiter: n})
		for _, ch := range s.c.TakeChanges() {
			for _, w := range ch.Writes {
				switch {
				case w.Prefix:
					maps.DeleteFunc(store, func(k string, _ []byte) bool { return strings.HasPrefix(k, string(w.Key)) })
				case w.Value == nil:
					delete(store, string(w.Key))
				default:
					store[string(w.Key)] = w.Value
				}
			}
			history[ch.Seq] = maps.Clone(store)
			seqs = append(seqs, ch.Seq)
		}
		if tooOld && !known {
			if len(one) > 0 || under != nil {
				if codeOf(e) != CodeAskAgain {
					t.Fatalf("step %d: a view of %d is good although %d is forgotten: %+v", n, at, s.c.view.forgotten, e)
				}
				continue
			}
		}
		want := applyToModel(m, prefix, &op)
		got, ok := e.Value.(StateResult)
		if !ok || !sameResult(got, want) {
			t.Fatalf("step %d, %+v with a view of %d, %d is forgotten:\n%+v, %v\nwant\n%+v", n, op, at, s.c.view.forgotten, got, e.Err, want)
		}
		if rnd.IntN(6) == 0 {
			s.do(&StoreApplied{Seq: seqs[rnd.IntN(len(seqs))]})
			if rnd.IntN(2) == 0 {
				s.pass(overlayAge * 1_000_000)
				s.do(&Tick{})
			}
		}
	}
}

// applyToModel is what an operation means for a map of keys.
func applyToModel(m map[string][]byte, prefix []byte, op *StateOp) (r StateResult) {
	key := func(f Field) string { return string(FieldKey(prefix, &f)) }
	one := key(Field{Key: op.Key, Sub: op.Sub, InMap: op.InMap})
	under := string(prefix)
	if op.Verb == StateMap || op.Verb == StateMapClear {
		under = string(MapPrefix(prefix, op.Key))
	}
	switch old, ok := m[one]; op.Verb {
	case StateGet:
		r.Found, r.Value = ok, old
	case StateSet:
		r.Found, r.Value, r.Created = ok, old, !ok
		m[one] = notNil(op.Value)
	case StateDelete:
		if r.Found, r.Value = ok, old; ok {
			r.N = 1
			delete(m, one)
		}
	case StateUpdate:
		for _, f := range op.Removes {
			if _, ok := m[key(f)]; ok {
				r.Removed++
				delete(m, key(f))
			}
		}
		had := maps.Clone(m)
		for _, f := range op.Sets {
			if _, ok := had[key(f)]; !ok {
				r.Added++
			}
			m[key(f)] = notNil(f.Value)
		}
	case StateMapClear, StateClear:
		for k := range m {
			if strings.HasPrefix(k, under) {
				r.N++
				delete(m, k)
			}
		}
		if op.Verb == StateClear {
			r.N = min(r.N, 1)
		}
	default:
		for k, v := range m {
			if strings.HasPrefix(k, under) {
				f, _ := fieldOf(string(prefix), k, v)
				r.Fields = append(r.Fields, f)
			}
		}
		sortFields(r.Fields)
	}
	return r
}

func sameResult(a, b StateResult) bool {
	if a.Found != b.Found || !bytes.Equal(a.Value, b.Value) || a.Created != b.Created || a.N != b.N || a.Added != b.Added || a.Removed != b.Removed || len(a.Fields) != len(b.Fields) {
		return false
	}
	for i := range a.Fields {
		x, y := a.Fields[i], b.Fields[i]
		if x.Key != y.Key || x.Sub != y.Sub || x.InMap != y.InMap || !bytes.Equal(x.Value, y.Value) {
			return false
		}
	}
	return true
}

// A store that takes nothing bounds what may wait for it; a partition that lacks
// nothing goes on.
func TestRoomForTheStore(t *testing.T) {
	s := newSolo(t, Config{})
	a := Actor{"dp", "A", "1"}
	set := func(n int) Code {
		v := &View{Applied: s.c.Seq()}
		return codeOf(s.answer(&StateInput{Op: StateOp{Actor: a, Verb: StateSet, Key: "k", Value: make([]byte, n)}, View: v, Waiter: "w"}))
	}
	s.c.SetRoom(0)
	if got := set(10); got != "" {
		t.Errorf("nothing waits for the store: %q", got)
	}
	first := s.c.Ahead()
	s.c.SetRoom(1000)
	if got := set(2000); got != CodeStoreAway {
		t.Errorf("too much: %q", got)
	}
	if got := codeOf(s.answer(&StateInput{Op: StateOp{Actor: a, Verb: StateDelete, Key: "none"}, View: &View{Applied: s.c.Seq()}, Waiter: "w"})); got != "" {
		t.Errorf("what changes nothing: %q", got)
	}
	if got := set(100); got != "" || s.c.Ahead() <= first || s.c.Ahead() >= first+1000 {
		t.Errorf("there was room: %q, %d bytes wait", got, s.c.Ahead())
	}
	s.c.SetRoom(changeBytes - 1)
	for i, x := range []Request{{Kind: Promise}, {Kind: Call, Key: "key"}, {Kind: Remove}, {Kind: Tell}, {Kind: Call}} {
		to := Target{App: "dp", Type: "B", ID: fmt.Sprint(i)}
		x.ID, x.Target, x.Method = s.id(to), to, "POST"
		e := s.answer(&Submit{Request: x, Waiter: i, View: &View{Applied: s.c.Seq()}})
		if got := codeOf(e); (got == CodeStoreAway) != (i < 3) {
			t.Errorf("request %d: %q", i, got)
		}
	}
	s.do(&StoreApplied{Seq: s.c.Seq()})
	if got := set(2000); got != "" {
		t.Errorf("the store has all: %q", got)
	}
	s.c.StoreHas()
	if s.c.Ahead() != 0 || len(s.c.view.recent) != 0 || len(s.c.view.groups) != 0 {
		t.Errorf("%d bytes wait", s.c.Ahead())
	}
	v := &View{Applied: s.c.Seq(), Generation: 1}
	if got := codeOf(s.answer(&StateInput{Op: StateOp{Actor: a, Verb: StateGet, Key: "k"}, View: v, Waiter: "w"})); got != CodeAskAgain {
		t.Errorf("a view of another generation: %q", got)
	}
}

// An actor's method that a purge has ended changes nothing any more, neither its
// own state nor reminders and subscriptions; others do.
func TestGhostsChangeNothing(t *testing.T) {
	s := newSolo(t, Config{})
	s.host("h1")
	s.host("h2")
	a := Target{App: "dp", Type: "A", ID: "x"}
	s.do(&Submit{Request: Request{ID: s.id(a), Target: a, Method: "POST", Path: "/m"}})
	on := s.c.actors[a.Actor()].host
	other := map[string]string{"h1": "h2", "h2": "h1"}[on]
	s.do(&Purge{App: "dp", Waiter: "p"})
	for boot, want := range map[string]Code{on: CodePurged, other: "", "": ""} {
		sub := Subscription{Actor: a.Actor(), ID: "s", Path: "/p", Topic: "t"}
		for _, in := range []Input{
			&StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateSet, Key: "k", Boot: boot}, View: &View{Applied: s.c.Seq(), Generation: 1}, Waiter: "w"},
			&SetReminder{Reminder: Reminder{Actor: a.Actor(), ID: "r", Path: "/p", Due: s.now.Wall + 9999}, Boot: boot, Waiter: "w"},
			&CancelReminders{Actor: a.Actor(), Boot: boot, Waiter: "w"},
			&Subscribe{Subscription: sub, Boot: boot, Waiter: "w"},
			&Unsubscribe{Actor: a.Actor(), Boot: boot, Waiter: "w"},
		} {
			if got := codeOf(s.answer(in)); got != want {
				t.Errorf("%T from %q: %q", in, boot, got)
			}
		}
		if got := codeOf(s.answer(&StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateGet, Key: "k", Boot: boot}, View: &View{Applied: s.c.Seq(), Generation: 1}, Waiter: "w"})); got != "" {
			t.Errorf("a read from %q: %q", boot, got)
		}
	}
	s.do(&HostDown{Boot: other})
	for _, in := range []Input{
		&StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateSet, Key: "k", Boot: other}, View: &View{Applied: s.c.Seq(), Generation: 1}, Waiter: "w"},
		&SetReminder{Reminder: Reminder{Actor: a.Actor(), ID: "r", Path: "/p", Due: s.now.Wall + 9999}, Boot: other, Waiter: "w"},
		&CancelReminders{Actor: a.Actor(), Boot: other, Waiter: "w"},
		&Subscribe{Subscription: Subscription{Actor: a.Actor(), ID: "s", Path: "/p", Topic: "t"}, Boot: other, Waiter: "w"},
		&Unsubscribe{Actor: a.Actor(), Boot: other, Waiter: "w"},
		&Publish{App: "dp", ID: s.id(a), Boot: other, Waiter: "w"},
		&Submit{Request: Request{ID: s.id(a), Target: a, Method: "POST", Boot: other}, Waiter: "w"},
		&HostJoined{Info: HostInfo{Boot: other, App: "dp"}, Waiter: "w"},
	} {
		if got := codeOf(s.answer(in)); got != CodeHostLost {
			t.Errorf("%T of a lost boot: %q", in, got)
		}
	}
}

// A key that is named twice is removed once.
func TestRemovedOnce(t *testing.T) {
	s := newSolo(t, Config{})
	op := func(op StateOp) StateResult {
		op.Actor = Actor{"dp", "A", "1"}
		return s.answer(&StateInput{Op: op, View: &View{}, Waiter: "w"}).Value.(StateResult)
	}
	op(StateOp{Verb: StateSet, Key: "k", Value: []byte("1")})
	k := Field{Key: "k"}
	if r := op(StateOp{Verb: StateUpdate, Removes: []Field{k, k}}); r.Removed != 1 {
		t.Errorf("%d were removed", r.Removed)
	}
	if r := op(StateOp{Verb: StateUpdate, Removes: []Field{k, k}}); r.Removed != 0 {
		t.Errorf("%d were removed of none", r.Removed)
	}
}

// What a read of all entries of an actor costs does not grow with the maps that were cleared.
func TestReadBesideClearedMaps(t *testing.T) {
	a := Actor{"dp", "A", "x"}
	prefix := ActorPrefix(a, 0)
	took := map[int]time.Duration{}
	for _, maps := range []int{1, 3000} {
		b := newBench(t, Config{})
		v := &View{Entries: map[string][]byte{}, Applied: b.c.Seq()}
		for i := range 20_000 {
			v.Entries[string(FieldKey(prefix, &Field{Key: fmt.Sprint(i)}))] = []byte("1")
		}
		for i := range maps {
			key := fmt.Sprint("m", i)
			k := string(FieldKey(prefix, &Field{Key: key, Sub: "s", InMap: true}))
			v.Entries[k] = []byte("1")
			b.step(&StateInput{Op: StateOp{Actor: a, Verb: StateMapClear, Key: key}, Waiter: 1,
				View: &View{Applied: v.Applied, Entries: map[string][]byte{k: v.Entries[k]}, Prefix: string(MapPrefix(prefix, key))}})
		}
		for i := range 3 { // the fastest of them
			began := time.Now()
			for _, e := range b.step(&StateInput{Op: StateOp{Actor: a, Verb: StateAll}, View: v, Waiter: 1}) {
				if x, ok := e.Value.(*StateScan); ok {
					x.Fields()
				}
			}
			if d := time.Since(began); i == 0 || d < took[maps] {
				took[maps] = d
			}
		}
	}
	if took[3000] > 10*took[1] {
		t.Errorf("beside 3,000 cleared maps it takes %v, beside one %v", took[3000], took[1])
	}
}

// A large state is put together by who asks for it: what was read from the store, without
// what the log says is gone, with what it has added.
func TestLargeStateIsMergedByItsReader(t *testing.T) {
	a := Actor{"dp", "A", "x"}
	prefix := ActorPrefix(a, 0)
	const n = 100_000
	b := newBench(t, Config{})
	v := &View{Entries: map[string][]byte{}, Applied: b.c.Seq()}
	for i := range n {
		v.Entries[string(FieldKey(prefix, &Field{Key: fmt.Sprint(i)}))] = []byte("1")
	}
	of := func(op StateOp) any {
		op.Actor = a
		for _, e := range b.step(&StateInput{Op: op, View: v, Waiter: "w"}) {
			if e.Waiter == "w" {
				return e.Value
			}
		}
		return nil
	}
	of(StateOp{Verb: StateSet, Key: "new", Value: []byte("2")})
	of(StateOp{Verb: StateDelete, Key: "7"})
	of(StateOp{Verb: StateSet, Key: "8", Value: []byte("3")})
	began := time.Now()
	x, ok := of(StateOp{Verb: StateAll}).(*StateScan)
	step := time.Since(began)
	if !ok {
		t.Fatal("it is merged in the step")
	}
	of(StateOp{Verb: StateSet, Key: "later", Value: []byte("4")})
	of(StateOp{Verb: StateClear})
	began = time.Now()
	fs := x.Fields()
	if merge := time.Since(began); step > merge/5 {
		t.Errorf("the step takes %v, the reader %v", step, merge)
	}
	got := map[string]string{}
	for _, f := range fs {
		got[f.Key] = string(f.Value)
	}
	if _, there := got["7"]; len(fs) != n || there || got["new"] != "2" || got["8"] != "3" || got["9"] != "1" || got["later"] != "" {
		t.Errorf("%d entries of %d, new %q, 7 there %v, 8 %q, later %q", len(fs), n, got["new"], there, got["8"], got["later"])
	}
}

// Who needs longer to read than recent changes are remembered is waited for.
func TestSlowReaderReads(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	big, other := Actor{"dp", "A", "big"}, Actor{"dp", "A", "other"}
	write := func() {
		b.step(&StateInput{Op: StateOp{Actor: other, Verb: StateSet, Key: "k", Value: []byte("1")}, View: &View{Applied: b.c.Seq(), Entries: map[string][]byte{}}, Waiter: 1})
		b.step(&StoreApplied{Seq: b.c.Seq()})
	}
	tries := 0
	for read := false; !read; tries++ {
		if tries == 8 {
			t.Fatal("eight reads of 6 s each, and no answer")
		}
		write()
		v := &View{Applied: b.c.Seq(), Entries: map[string][]byte{}}
		for range 30 {
			b.pass(200 * time.Millisecond)
			write()
		}
		for _, e := range b.step(&StateInput{Op: StateOp{Actor: big, Verb: StateAll}, View: v, Waiter: 2}) {
			read = read || e.Kind == Reply && e.Err == nil
		}
	}
	if tries == 1 {
		t.Error("recent changes are remembered for long without a need")
	}
	for range 300 {
		b.pass(200 * time.Millisecond)
		write()
	}
	if n := len(b.c.view.recent); n > 30 {
		t.Errorf("a minute later %d changes are remembered", n)
	}
}
