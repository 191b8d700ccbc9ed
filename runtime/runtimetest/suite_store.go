package runtimetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A StoreSetup opens the store under test. Partitions 0 and 1 exist.
type StoreSetup struct {
	// Open is called first on an empty store, later on what was left before.
	Open func(t *testing.T) runtime.Store
	// Wait lets at least d pass on the store's clock.
	Wait func(d time.Duration)
	// Now is the store's clock.
	Now func() time.Time
}

// StoreSuite checks the laws of runtime.Store; fresh is called once for each.
func StoreSuite(t *testing.T, fresh func(t *testing.T) StoreSetup) {
	for _, law := range []struct {
		name  string
		check func(*testing.T, StoreSetup)
	}{
		{"empty", storeEmpty},
		{"apply-compares", storeCompare},
		{"set-delete", storeSetDelete},
		{"order-within-a-batch", storeOrder},
		{"prefix", storePrefix},
		{"partitions-apart", storePartitions},
		{"snapshot-is-frozen", storeFrozen},
		{"snapshot-whole", storeWhole},
		{"expiry", storeExpiry},
		{"sync-and-reopen", storeReopen},
		{"like-a-map", storeModel},
	} {
		t.Run(law.name, func(t *testing.T) { law.check(t, fresh(t)) })
	}
}

func storeEmpty(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	wantApplied(t, s, 0, 0)
	wantContent(t, s, 0, "", map[string]string{})
	wantGet(t, s, 0, "a", nil)
}

func storeCompare(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	apply(t, s, 0, 0, 5, set("a", "1"))
	for _, from := range []uint64{0, 4, 6} {
		got, err := s.Apply(t.Context(), 0, from, 9, []runtime.Mutation{set("a", "2"), set("b", "2")})
		if err != nil || got != 5 {
			t.Fatalf("apply from %d on a store at 5 = %d, %v; want 5", from, got, err)
		}
	}
	wantContent(t, s, 0, "", map[string]string{"a": "1"})
	apply(t, s, 0, 5, 6)
	wantApplied(t, s, 0, 6)
}

func storeSetDelete(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	apply(t, s, 0, 0, 1, set("", "empty key"), set("a", ""), set("a\x00", "\x00\xff"), set("\xff\xff", "last"))
	wantContent(t, s, 0, "", map[string]string{"": "empty key", "a": "", "a\x00": "\x00\xff", "\xff\xff": "last"})
	wantGet(t, s, 0, "a", []byte{})
	wantGet(t, s, 0, "b", nil)
	apply(t, s, 0, 1, 2, set("a", "2"), del(""), del("never there"))
	wantContent(t, s, 0, "", map[string]string{"a": "2", "a\x00": "\x00\xff", "\xff\xff": "last"})
}

func storeOrder(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	apply(t, s, 0, 0, 1, set("p/old", "1"), set("q", "1"))
	apply(t, s, 0, 1, 2, set("p/early", "2"), prefix("p/"), set("p/late", "2"), set("q", "2"), set("q", "3"), del("r"), set("r", "1"))
	wantContent(t, s, 0, "", map[string]string{"p/late": "2", "q": "3", "r": "1"})
}

func storePrefix(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	var many []runtime.Mutation
	for i := range 300 {
		many = append(many, set(fmt.Sprintf("many/%03d", i), "x"))
	}
	many = append(many, set("many", "kept"), set("many0", "kept"), set("\xff\xff", "1"), set("\xff\xffa", "1"), set("\xff\xfe", "kept"))
	apply(t, s, 0, 0, 1, many...)
	apply(t, s, 0, 1, 2, prefix("many/"), prefix("\xff\xff"), prefix("nothing"))
	wantContent(t, s, 0, "", map[string]string{"many": "kept", "many0": "kept", "\xff\xfe": "kept"})
	apply(t, s, 0, 2, 3, prefix(""), set("only", "1"))
	wantContent(t, s, 0, "", map[string]string{"only": "1"})
}

func storePartitions(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	apply(t, s, 0, 0, 1, set("a", "0"))
	apply(t, s, 1, 0, 7, set("a", "1"))
	apply(t, s, 0, 1, 2, prefix(""))
	wantContent(t, s, 0, "", map[string]string{})
	wantContent(t, s, 1, "", map[string]string{"a": "1"})
	wantApplied(t, s, 1, 7)
}

func storeFrozen(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	apply(t, s, 0, 0, 1, set("a", "1"))
	err := s.Read(t.Context(), 0, func(snap runtime.Snapshot) error {
		before, err := snap.Get([]byte("a"))
		if err != nil {
			return err
		}
		apply(t, s, 0, 1, 2, set("a", "2"), set("b", "2"))
		after, err := snap.Get([]byte("a"))
		if err != nil {
			return err
		}
		if string(before) != "1" || string(after) != "1" || snap.Applied() != 1 {
			return fmt.Errorf("a frozen view changed from %q to %q at %d", before, after, snap.Applied())
		}
		n := 0
		err = snap.Scan(nil, func(_, _ []byte) bool { n++; return true })
		if n != 1 {
			return fmt.Errorf("a frozen view has %d entries, want 1", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// storeWhole reads while another goroutine writes: position and content always fit.
func storeWhole(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := uint64(0); !stop.Load() && i < 5000; i++ {
			v := fmt.Sprint(i + 1)
			if _, err := s.Apply(t.Context(), 0, i, i+1, []runtime.Mutation{set("a", v), set("b", v)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 300 {
		err := s.Read(t.Context(), 0, func(snap runtime.Snapshot) error {
			a, err := snap.Get([]byte("a"))
			b, err2 := snap.Get([]byte("b"))
			want := fmt.Sprint(snap.Applied())
			if snap.Applied() == 0 {
				want = ""
			}
			if err != nil || err2 != nil || string(a) != want || string(b) != want {
				return fmt.Errorf("a=%q b=%q at %d, %w %w", a, b, snap.Applied(), err, err2)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	writer.Wait()
}

func storeExpiry(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	soon := setup.Now().Unix() + 2
	brief := set("brief", "1")
	brief.Expires = soon
	renewed := set("renewed", "1")
	renewed.Expires = soon
	long := set("long", "1")
	long.Expires = soon + 3600
	apply(t, s, 0, 0, 1, brief, renewed, long, set("ever", "1"))
	wantContent(t, s, 0, "", map[string]string{"brief": "1", "renewed": "1", "long": "1", "ever": "1"})
	apply(t, s, 0, 1, 2, set("renewed", "2"))
	setup.Wait(3 * time.Second)
	wantContent(t, s, 0, "", map[string]string{"renewed": "2", "long": "1", "ever": "1"})
	wantGet(t, s, 0, "brief", nil)
	apply(t, s, 0, 2, 3, set("brief", "again"))
	wantGet(t, s, 0, "brief", []byte("again"))
}

func storeReopen(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	apply(t, s, 0, 0, 10, set("a", "1"))
	apply(t, s, 1, 0, 20, set("b", "1"))
	for p, want := range []uint64{10, 20} {
		durable, err := s.Sync(t.Context(), uint16(p))
		if err != nil || durable > want {
			t.Fatalf("sync of partition %d = %d, %v; applied is %d", p, durable, err, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = setup.Open(t)
	wantApplied(t, s, 0, 10)
	wantApplied(t, s, 1, 20)
	wantContent(t, s, 0, "", map[string]string{"a": "1"})
	wantContent(t, s, 1, "", map[string]string{"b": "1"})
}

// storeModel applies random batches to the store and to a map.
func storeModel(t *testing.T, setup StoreSetup) {
	s := setup.Open(t)
	rng := rand.New(rand.NewPCG(7, 7))
	key := func() string { return strings.Repeat("k", rng.IntN(3)) + string(rune('a'+rng.IntN(4))) }
	model := map[string]string{}
	for at := range uint64(300) {
		var batch []runtime.Mutation
		for range rng.IntN(6) {
			k := key()
			switch rng.IntN(5) {
			case 0:
				batch = append(batch, del(k))
				delete(model, k)
			case 1:
				batch = append(batch, prefix(k))
				maps.DeleteFunc(model, func(have, _ string) bool { return strings.HasPrefix(have, k) })
			default:
				v := fmt.Sprint(at)
				batch = append(batch, set(k, v))
				model[k] = v
			}
		}
		apply(t, s, 0, at, at+1, batch...)
		p := key()[:1]
		want := maps.Clone(model)
		maps.DeleteFunc(want, func(k, _ string) bool { return !strings.HasPrefix(k, p) })
		wantContent(t, s, 0, p, want)
	}
	wantContent(t, s, 0, "", model)
}

func set(k, v string) runtime.Mutation { return runtime.Mutation{Key: []byte(k), Value: []byte(v)} }
func del(k string) runtime.Mutation    { return runtime.Mutation{Key: []byte(k)} }
func prefix(k string) runtime.Mutation { return runtime.Mutation{Key: []byte(k), Prefix: true} }

func apply(t *testing.T, s runtime.Store, p uint16, from, to uint64, batch ...runtime.Mutation) {
	t.Helper()
	if got, err := s.Apply(t.Context(), p, from, to, batch); err != nil || got != to {
		t.Fatalf("apply from %d = %d, %v; want %d", from, got, err, to)
	}
}

func wantApplied(t *testing.T, s runtime.Store, p uint16, want uint64) {
	t.Helper()
	if got, err := s.Applied(t.Context(), p); err != nil || got != want {
		t.Fatalf("applied = %d, %v; want %d", got, err, want)
	}
}

func wantGet(t *testing.T, s runtime.Store, p uint16, key string, want []byte) {
	t.Helper()
	err := s.Read(t.Context(), p, func(snap runtime.Snapshot) error {
		got, err := snap.Get([]byte(key))
		if err == nil && (!bytes.Equal(got, want) || (got == nil) != (want == nil)) {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
}

func wantContent(t *testing.T, s runtime.Store, p uint16, prefix string, want map[string]string) {
	t.Helper()
	err := s.Read(t.Context(), p, func(snap runtime.Snapshot) error {
		var keys []string
		got := map[string]string{}
		err := snap.Scan([]byte(prefix), func(k, v []byte) bool {
			keys = append(keys, string(k))
			got[string(k)] = string(v)
			return true
		})
		if err == nil && (!maps.Equal(got, want) || !slices.IsSorted(keys) || len(keys) != len(want)) {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
	if err != nil {
		t.Fatalf("scan %q: %v", prefix, err)
	}
}
