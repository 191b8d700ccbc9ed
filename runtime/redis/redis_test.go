package redis

import (
	"fmt"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// at is a configuration for a server of a test, with a mesh of the test's own.
func at(t testing.TB, server *parts.Redis) Config {
	return Config{Mesh: t.Name(), Partitions: 2, Host: server.Host, Port: server.Port, Logger: testLog(t)}
}

func open(t testing.TB, c Config) *Redis {
	t.Helper()
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func checked(t testing.TB, c Config) *Redis {
	t.Helper()
	r := open(t, c)
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func storeSetup(c func(t *testing.T) Config) func(t *testing.T) runtimetest.StoreSetup {
	return func(t *testing.T) runtimetest.StoreSetup {
		cfg := c(t)
		return runtimetest.StoreSetup{
			Open: func(t *testing.T) runtime.Store { return checked(t, cfg) },
			Wait: time.Sleep,
			Now:  time.Now,
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	server := parts.NeedRedis(t, parts.RedisOptions{})
	runtimetest.StoreSuite(t, storeSetup(func(t *testing.T) Config { return at(t, server) }))
}

func TestMembers(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	runtimetest.MembersSuite(t, func(t *testing.T) runtimetest.MembersSetup {
		cfg := at(t, server)
		return runtimetest.MembersSetup{Open: func(t *testing.T) runtime.Members { return checked(t, cfg) }, Wait: time.Sleep}
	})
}

func set(k, v string) runtime.Mutation { return runtime.Mutation{Key: []byte(k), Value: []byte(v)} }

func apply(t testing.TB, r *Redis, from, to uint64, writes ...runtime.Mutation) {
	t.Helper()
	if got, err := r.Apply(t.Context(), 0, from, to, writes); err != nil || got != to {
		t.Fatalf("apply %d to %d = %d, %v", from, to, got, err)
	}
}

func applied(t testing.TB, r *Redis, want uint64) {
	t.Helper()
	if got, err := r.Applied(t.Context(), 0); err != nil || got != want {
		t.Fatalf("applied = %d, %v; want %d", got, err, want)
	}
}

func get(t testing.TB, r *Redis, key, want string) {
	t.Helper()
	var got []byte
	err := r.Read(t.Context(), 0, func(s runtime.Snapshot) (err error) {
		got, err = s.Get([]byte(key))
		return err
	})
	if err != nil || string(got) != want {
		t.Fatalf("get %q = %q, %v; want %q", key, got, err, want)
	}
}

func count(t testing.TB, r *Redis, prefix string) (n int) {
	t.Helper()
	err := r.Read(t.Context(), 0, func(s runtime.Snapshot) error {
		n = 0
		return s.Scan([]byte(prefix), func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// many are n sets under a prefix.
func many(n int, prefix string) []runtime.Mutation {
	writes := make([]runtime.Mutation, 0, n)
	for i := range n {
		writes = append(writes, set(fmt.Sprintf("%s%08d", prefix, i), "value"))
	}
	return writes
}

// soon polls until done says nil.
func soon(t testing.TB, most time.Duration, done func() error) {
	t.Helper()
	until := time.Now().Add(most)
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("after %v: %v", most, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
