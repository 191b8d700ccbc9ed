package redis

import (
	"fmt"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestRights: the rights that docs/errors/redis_auth.md names are enough.
func TestRights(t *testing.T) {
	t.Parallel()
	server := parts.NeedRedis(t, parts.RedisOptions{ACL: []string{
		"user default on nopass ~* +@all",
		"user kar on >secret ~kar:* +@read +@write +@scripting +@connection +info +time +wait",
	}})
	parts.NeedRedis(t, parts.RedisOptions{ReplicaOf: server.Addr()})
	c := at(t, server)
	c.User, c.Password = "kar", "secret"
	r := checked(t, c)
	brief := set("brief", "1")
	brief.Expires = 1
	apply(t, r, 0, 1, append(many(2000, "a/"), brief)...)
	apply(t, r, 1, 2, prefix("a/"), set("b", "1"))
	get(t, r, "b", "1")
	applied(t, r, 2)
	soon(t, 20*time.Second, func() error {
		durable, err := r.Sync(t.Context(), 0)
		if err == nil && durable != 2 {
			err = fmt.Errorf("durable is %d", durable)
		}
		return err
	})
	if _, err := r.Announce(t.Context(), runtime.Member{Node: "n"}, time.Minute); err != nil {
		t.Error(err)
	}
	if err := r.Leave(t.Context(), "n"); err != nil {
		t.Error(err)
	}
}

// TestNothingIsLeft: what Open starts ends with Close, also when the server is away.
func TestNothingIsLeft(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	away := at(t, server)
	away.Port, away.Timeout = 1, 200*time.Millisecond
	before := goruntime.NumGoroutine()
	for range 20 {
		r := checked(t, at(t, server))
		apply(t, r, 0, 0)
		_ = r.Close()
		_ = r.Close()
		gone, err := Open(away)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, "check", gone.Check(t.Context()), runtime.CodeRedisUnreachable)
		if err := gone.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := gone.Applied(t.Context(), 0); err == nil {
			t.Fatal("it works after Close")
		}
	}
	soon(t, 10*time.Second, func() error {
		if now := goruntime.NumGoroutine(); now > before+2 {
			return fmt.Errorf("%d goroutines, %d before", now, before)
		}
		return nil
	})
}
