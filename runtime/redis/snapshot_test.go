package redis

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestReadStartsAgain: when another process moves the view, fn sees one version
// or starts anew, and an error that it makes of the snapshot's is not the end.
func TestReadStartsAgain(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	r, other := checked(t, at(t, server)), checked(t, at(t, server))
	apply(t, r, 0, 1, set("a", "1"), set("b", "1"))
	runs := 0
	err := r.Read(t.Context(), 0, func(s runtime.Snapshot) error {
		runs++
		a, err := s.Get([]byte("a"))
		if err != nil {
			return err
		}
		if runs == 1 {
			apply(t, other, 1, 2, set("a", "2"), set("b", "2"))
		}
		b, err := s.Get([]byte("b"))
		if err != nil {
			return errors.New("an error of fn's own")
		}
		if string(a) != string(b) || s.Applied() != 2 {
			return fmt.Errorf("a=%s b=%s at %d", a, b, s.Applied())
		}
		return nil
	})
	if err != nil || runs != 2 {
		t.Fatalf("%v after %d runs", err, runs)
	}
}

// TestReadGivesUp: it never goes on for ever.
func TestReadGivesUp(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	r, other := checked(t, at(t, server)), checked(t, at(t, server))
	now := uint64(0)
	err := r.Read(t.Context(), 0, func(s runtime.Snapshot) error {
		_, _ = s.Get([]byte("a"))
		apply(t, other, now, now+1)
		now++
		_, _ = s.Get([]byte("a"))
		return nil
	})
	var e *runtime.Error
	if !errors.As(err, &e) || e.Code != runtime.CodeStoreAway || now != mostRuns {
		t.Fatalf("%v after %d runs", err, now)
	}
}

// TestScanWhileWriting: this process's own writes never disturb a scan over
// several pages, whatever they do to what was and was not visited.
func TestScanWhileWriting(t *testing.T) {
	r := checked(t, at(t, parts.NeedRedis(t, parts.RedisOptions{})))
	want := map[string]string{}
	var first []runtime.Mutation
	for i := range 3 * pageItems {
		k := fmt.Sprintf("p/%05d", i*2)
		v := strings.Repeat("v", i%50)
		want[k] = v
		first = append(first, set(k, v))
	}
	apply(t, r, 0, 1, first...)
	runs := 0
	err := r.Read(t.Context(), 0, func(s runtime.Snapshot) error {
		runs++
		got, at, prev := map[string]string{}, uint64(1), ""
		err := s.Scan([]byte("p/"), func(k, v []byte) bool {
			key := string(k)
			if key <= prev {
				t.Errorf("%q after %q", key, prev)
			}
			prev = key
			got[key] = string(v)
			if len(got)%37 == 0 {
				n, all := at*131, uint64(6*pageItems)
				k := func(ahead uint64) string { return fmt.Sprintf("p/%05d", (n+ahead)%all) }
				apply(t, r, at, at+1, set(k(0), "new"), set(k(all/2), "zzz"), runtime.Mutation{Key: []byte(k(all / 4))},
					prefix(k(all / 8)[:6]), set(k(all / 8)[:6]+"3", "odd"))
				at++
			}
			return true
		})
		if err == nil && !maps.Equal(got, want) {
			err = fmt.Errorf("%d entries, want the %d of before", len(got), len(want))
		}
		if err == nil && (s.Applied() != 1 || at < 20) {
			err = fmt.Errorf("at %d after %d writes", s.Applied(), at)
		}
		return err
	})
	if err != nil || runs != 1 {
		t.Fatalf("%v after %d runs", err, runs)
	}
	p := r.parts[0]
	if p.readers != 0 || p.undo != nil {
		t.Fatalf("%d readers and %d old versions are left", p.readers, len(p.undo))
	}
}

// TestOneReadIsOneTrip: a Get and the position after it cost one script.
func TestOneReadIsOneTrip(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	c := at(t, server)
	trips := 0
	cut := &cutDialer{}
	c.Dial = cut.dial
	r := checked(t, c)
	get(t, r, "a", "")
	cut.write.Store(func([]byte) bool { trips++; return false })
	err := r.Read(t.Context(), 0, func(s runtime.Snapshot) error {
		_, err := s.Get([]byte("a"))
		s.Applied()
		return err
	})
	if err != nil || trips != 1 {
		t.Fatalf("%d trips, %v", trips, err)
	}
}

// TestKeys: what members and bounds are made of.
func TestKeys(t *testing.T) {
	for _, k := range []string{"", "a", "\x00", "\x00\x00", "a\x00b", "\x00\xff", "\xff\x00\x01"} {
		if got := unescape(escape([]byte(k))); string(got) != k {
			t.Errorf("%q comes back as %q", k, got)
		}
		member := string(escape([]byte(k))) + "\x00\x01" + string(sealValue([]byte("\x00\x01v"), 77))
		key, value, ok := splitMember(member)
		if !ok || string(unescape([]byte(key))) != k || value != "\x00\x01v" {
			t.Errorf("%q is split into %q and %q", k, key, value)
		}
	}
	for _, m := range []string{"", "a", "a\x00", "a\x00\x01", "a\x00\x01\x01short"} {
		if _, _, ok := splitMember(m); ok {
			t.Errorf("%q is taken as a member", m)
		}
	}
	seen := map[string]string{}
	for _, mesh := range []string{"a", "a.1", "a}.1", "{a}", "A", "a%2e1", "a:1", "ü", "a_1"} {
		for _, k := range append(partitionKeys(mesh, 1), membersKey(mesh), identityKey(mesh)) {
			if other, have := seen[k]; have {
				t.Errorf("meshes %q and %q share %q", mesh, other, k)
			}
			seen[k] = mesh
			if strings.Count(k, "{") != 1 || strings.Count(k, "}") != 1 {
				t.Errorf("%q has more than one hash tag", k)
			}
		}
	}
}
