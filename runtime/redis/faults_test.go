package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

func TestKillWithAppendOnlyFile(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{AppendOnly: true})
	r := checked(t, at(t, server))
	apply(t, r, 0, 5, set("a", "1"))
	restart(t, server)
	applied(t, r, 5)
	get(t, r, "a", "1")
	apply(t, r, 5, 6, set("a", "2"))
}

// TestKillWithoutFile: all is gone, and said to be gone.
func TestKillWithoutFile(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	keeper := &logKeeper{}
	c := at(t, server)
	c.Logger = keeper.logger()
	r := checked(t, c)
	if !strings.Contains(keeper.String(), "no append-only file") {
		t.Errorf("the log does not say what a crash can lose: %s", keeper)
	}
	apply(t, r, 0, 5, set("a", "1"))
	restart(t, server)
	applied(t, r, 0)
	get(t, r, "a", "")
	if got, err := r.Apply(t.Context(), 0, 5, 6, nil); err != nil || got != 0 {
		t.Fatalf("apply to an empty store = %d, %v", got, err)
	}
	apply(t, r, 0, 6, set("a", "1"))
	get(t, r, "a", "1")
}

func restart(t *testing.T, server *parts.Redis) {
	t.Helper()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLost: whatever the server drops, the view is never half of what it was.
func TestLost(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	for name, lose := range map[string]func(r *Redis) error{
		"everything": func(r *Redis) error { return server.Flush(t.Context()) },
		"entries":    func(r *Redis) error { return r.client.Del(t.Context(), r.parts[0].keys[0]).Err() },
		"meta":       func(r *Redis) error { return r.client.Del(t.Context(), r.parts[0].keys[1]).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			r := checked(t, at(t, server))
			apply(t, r, 0, 5, set("a", "1"), set("old", "1"))
			if err := lose(r); err != nil {
				t.Fatal(err)
			}
			applied(t, r, 0)
			get(t, r, "a", "")
			if n := count(t, r, ""); n != 0 {
				t.Fatalf("%d entries at position 0", n)
			}
			apply(t, r, 0, 3, set("a", "2"))
			get(t, r, "a", "2")
			get(t, r, "old", "")
		})
	}
}

// TestStall: a server that does not answer costs a bounded time, and nothing
// has to be done when it goes on.
func TestStall(t *testing.T) {
	t.Parallel()
	server := parts.NeedRedis(t, parts.RedisOptions{})
	c := at(t, server)
	c.Timeout = 300 * time.Millisecond
	r := checked(t, c)
	apply(t, r, 0, 1, set("a", "1"))
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	m, second := runtime.Member{Node: "n"}, []runtime.Mutation{set("a", "2")}
	for name, call := range map[string]func(context.Context) error{
		"apply": func(ctx context.Context) error { _, err := r.Apply(ctx, 0, 1, 2, second); return err },
		"large": func(ctx context.Context) error {
			_, err := r.Apply(ctx, 0, 1, 2, append(many(5000, "x"), second...))
			return err
		},
		"read": func(ctx context.Context) error {
			return r.Read(ctx, 0, func(s runtime.Snapshot) error { _, err := s.Get([]byte("a")); return err })
		},
		"position of a read": func(ctx context.Context) error {
			return r.Read(ctx, 0, func(s runtime.Snapshot) error { s.Applied(); return nil })
		},
		"applied":  func(ctx context.Context) error { _, err := r.Applied(ctx, 0); return err },
		"sync":     func(ctx context.Context) error { _, err := r.Sync(ctx, 0); return err },
		"announce": func(ctx context.Context) error { _, err := r.Announce(ctx, m, time.Second); return err },
		"leave":    func(ctx context.Context) error { return r.Leave(ctx, "n") },
		"check":    r.Check,
	} {
		began := time.Now()
		err := call(t.Context())
		wantCode(t, name, err, runtime.CodeRedisUnreachable)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	soon(t, 5*time.Second, func() error {
		got, err := r.Apply(t.Context(), 0, 1, 2, second)
		if err == nil && got != 2 {
			err = fmt.Errorf("applied is %d", got)
		}
		return err
	})
	get(t, r, "a", "2")
}

// TestAwayAtStart: Open needs nobody, and what it returns connects later.
func TestAwayAtStart(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	r := open(t, at(t, server))
	wantCode(t, "check", r.Check(t.Context()), runtime.CodeRedisUnreachable)
	_, err := r.Applied(t.Context(), 0)
	wantCode(t, "applied", err, runtime.CodeRedisUnreachable)
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, 5*time.Second, func() error { return r.Check(t.Context()) })
	apply(t, r, 0, 1, set("a", "1"))
}

func TestCancelled(t *testing.T) {
	r := checked(t, at(t, parts.NeedRedis(t, parts.RedisOptions{})))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Apply(ctx, 0, 0, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("apply: %v", err)
	}
	applied(t, r, 0)
}

// proxied is a configuration whose connections go through a proxy that can
// spoil them.
func proxied(t *testing.T, server *parts.Redis) (Config, *toxiproxy.Proxy) {
	t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "redis", "127.0.0.1:0", server.Addr())
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	c := at(t, server)
	host, port, _ := strings.Cut(p.Listen, ":")
	c.Host = host
	fmt.Sscan(port, &c.Port)
	return c, p
}

func toxic(t *testing.T, p *toxiproxy.Proxy, json string) {
	t.Helper()
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(json)); err != nil {
		t.Fatal(err)
	}
}

// TestSlowLink: everything works, later.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	c, p := proxied(t, parts.NeedRedis(t, parts.RedisOptions{}))
	toxic(t, p, `{"name":"slow","type":"latency","stream":"downstream","attributes":{"latency":50,"jitter":20}}`)
	toxic(t, p, `{"name":"thin","type":"slicer","stream":"upstream","attributes":{"average_size":100,"size_variation":50,"delay":10}}`)
	r := checked(t, c)
	apply(t, r, 0, 1, many(1500, "x/")...)
	if n := count(t, r, "x/"); n != 1500 {
		t.Fatalf("%d entries", n)
	}
}

// TestCutLink: connections are reset in the middle all the time; no write is
// lost or done from the wrong place.
func TestCutLink(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	c, p := proxied(t, server)
	c.Timeout = 500 * time.Millisecond
	r := open(t, c)
	toxic(t, p, `{"name":"cut","type":"limit_data","stream":"downstream","attributes":{"bytes":600}}`)
	toxic(t, p, `{"name":"cut2","type":"limit_data","stream":"upstream","attributes":{"bytes":9000}}`)
	failed := 0
	for at := uint64(0); at < 300; {
		writes := []runtime.Mutation{set("last", fmt.Sprint(at+1)), set(fmt.Sprintf("k/%d", at), "1")}
		got, err := r.Apply(t.Context(), 0, at, at+1, writes)
		switch {
		case err != nil:
			failed++
			if failed > 5000 {
				t.Fatal(err)
			}
		case got != at && got != at+1:
			t.Fatalf("apply from %d = %d", at, got)
		default:
			at = got
		}
	}
	direct := checked(t, at(t, server))
	applied(t, direct, 300)
	get(t, direct, "last", "300")
	if n := count(t, direct, "k/"); n != 300 {
		t.Fatalf("%d entries, want 300; %d calls failed", n, failed)
	}
}

// TestBlackHole: packets go nowhere.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	c, p := proxied(t, parts.NeedRedis(t, parts.RedisOptions{}))
	c.Timeout = 300 * time.Millisecond
	r := checked(t, c)
	toxic(t, p, `{"name":"hole","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)
	began := time.Now()
	_, err := r.Applied(t.Context(), 0)
	wantCode(t, "applied", err, runtime.CodeRedisUnreachable)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := p.Toxics.RemoveToxic(t.Context(), "hole"); err != nil {
		t.Fatal(err)
	}
	soon(t, 5*time.Second, func() error { _, err := r.Applied(t.Context(), 0); return err })
}

// TestSentinels: a failover to a replica that is behind shows as a position
// that went back, never as content without its position.
func TestSentinels(t *testing.T) {
	t.Parallel()
	s := parts.NeedRedisSentinels(t, parts.RedisOptions{Password: "secret"})
	c := Config{Mesh: t.Name(), Partitions: 2, Master: s.Name, Sentinels: s.Addrs(), Password: "secret", Timeout: 2 * time.Second}
	r := checked(t, c)
	apply(t, r, 0, 5, set("a", "1"))
	soon(t, 10*time.Second, func() error {
		durable, err := r.Sync(t.Context(), 0)
		if err == nil && durable != 5 {
			err = fmt.Errorf("durable is %d with a replica", durable)
		}
		return err
	})
	// The replica stands still, and is cut off, while the master takes more.
	if err := s.Replica.Pause(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Master.Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica"); err != nil {
		t.Fatal(err)
	}
	apply(t, r, 5, 9, set("a", "2"))
	if durable, err := r.Sync(t.Context(), 0); err != nil || durable > 5 {
		t.Fatalf("durable is %d, %v, while the replica is at 5", durable, err)
	}
	if err := s.Master.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Replica.Resume(); err != nil {
		t.Fatal(err)
	}
	soon(t, 60*time.Second, func() error {
		got, err := r.Apply(t.Context(), 0, 9, 10, nil)
		if err == nil && got == 10 {
			t.Fatal("the replica was not behind: the test proves nothing")
		}
		if err == nil && got != 5 {
			t.Fatalf("applied is %d", got)
		}
		return err
	})
	get(t, r, "a", "1")
	apply(t, r, 5, 10, set("a", "2"))
	get(t, r, "a", "2")
	if durable, err := r.Sync(t.Context(), 0); err != nil || durable > 5 {
		t.Fatalf("durable is %d, %v, with no replica since a moment ago", durable, err)
	}
}

func TestStoreOnCluster(t *testing.T) {
	t.Parallel()
	cluster := parts.NeedRedisCluster(t, parts.RedisOptions{})
	config := func(t *testing.T) Config { return Config{Mesh: t.Name(), Partitions: 64, Cluster: cluster.Addrs()} }
	runtimetest.StoreSuite(t, storeSetup(config))
	t.Run("all-partitions", func(t *testing.T) {
		r := checked(t, config(t))
		for p := range uint16(64) {
			if got, err := r.Apply(t.Context(), p, 0, 1, []runtime.Mutation{set("a", "1")}); err != nil || got != 1 {
				t.Fatalf("partition %d: %d, %v", p, got, err)
			}
			if _, err := r.Sync(t.Context(), p); err != nil {
				t.Fatalf("partition %d: %v", p, err)
			}
		}
	})
	t.Run("members", func(t *testing.T) {
		runtimetest.MembersSuite(t, func(t *testing.T) runtimetest.MembersSetup {
			cfg := config(t)
			return runtimetest.MembersSetup{Open: func(t *testing.T) runtime.Members { return checked(t, cfg) }, Wait: time.Sleep}
		})
	})
}
