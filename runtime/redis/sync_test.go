package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

func wantSync(t *testing.T, r *Redis, want uint64) {
	t.Helper()
	if got, err := r.Sync(t.Context(), 0); err != nil || got != want {
		t.Fatalf("durable = %d, %v; want %d", got, err, want)
	}
}

// TestSafeAfter: without help of the server, what is safe is what has been
// there for a while without a gap.
func TestSafeAfter(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	now := time.Now()
	aged := func() *Redis {
		r := checked(t, at(t, server))
		r.clock = func() time.Time { return now }
		return r
	}
	r := aged()
	pass := func(d time.Duration) { now = now.Add(d) }
	apply(t, r, 0, 5)
	wantSync(t, r, 0)
	pass(6 * time.Minute)
	apply(t, r, 5, 8)
	wantSync(t, r, 0)
	pass(4 * time.Minute)
	wantSync(t, r, 5)
	pass(6 * time.Minute)
	wantSync(t, r, 8)
	// Nothing happens for long, then something.
	pass(time.Hour)
	apply(t, r, 8, 9)
	wantSync(t, r, 8)
	// A process that comes anew knows only since when it has looked.
	other := aged()
	wantSync(t, other, 0)
	pass(10 * time.Minute)
	wantSync(t, other, 9)
	wantSync(t, r, 9)
	// Redis lost everything: what was safe is not.
	if err := server.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	pass(10 * time.Minute)
	apply(t, other, 0, 20)
	if got, err := r.Apply(t.Context(), 0, 9, 10, nil); err != nil || got != 20 {
		t.Fatalf("%d, %v", got, err)
	}
	apply(t, r, 20, 21)
	wantSync(t, r, 0)
	pass(10 * time.Minute)
	wantSync(t, r, 21)
	// Lost between two Syncs, and nobody has written since.
	apply(t, r, 21, 30)
	pass(10 * time.Minute)
	if err := server.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSync(t, r, 0)
}

// TestSafetyMarks: thousands of positions are few marks, and none is safe too
// early or much too late.
func TestSafetyMarks(t *testing.T) {
	s := safety{after: 50_000}
	for i := range uint64(200_000) {
		s.moved(i, i+1, int64(i))
		if len(s.marks) > 2*safeMarks+3 {
			t.Fatalf("%d marks", len(s.marks))
		}
		got := s.age(int64(i))
		if got > 0 && int64(got) > int64(i)-50_000+1 {
			t.Fatalf("at %d, %d is safe", i, got)
		}
		if i > 60_000 && int64(got) < int64(i)-52_000 {
			t.Fatalf("at %d, only %d is safe", i, got)
		}
	}
}

// TestSyncWithReplica: what all replicas have is safe at once, and what one
// has not is not.
func TestSyncWithReplica(t *testing.T) {
	t.Parallel()
	master := parts.NeedRedis(t, parts.RedisOptions{})
	replica := parts.NeedRedis(t, parts.RedisOptions{ReplicaOf: master.Addr()})
	r := checked(t, at(t, master))
	soon(t, 20*time.Second, func() error {
		text, err := r.client.Info(t.Context(), "replication").Result()
		if err == nil && !strings.Contains(text, "state=online") {
			err = fmt.Errorf("no replica: %s", text)
		}
		return err
	})
	apply(t, r, 0, 5, set("a", "1"))
	reach := func(want uint64) {
		t.Helper()
		soon(t, 10*time.Second, func() error {
			got, err := r.Sync(t.Context(), 0)
			if err == nil && got != want {
				err = fmt.Errorf("durable is %d, want %d", got, want)
			}
			return err
		})
	}
	reach(5)
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	apply(t, r, 5, 6, set("a", "2"))
	wantSync(t, r, 5)
	if err := replica.Resume(); err != nil {
		t.Fatal(err)
	}
	reach(6)
}

// TestSyncWithAppendOnlyFile: from 7.2 on the server says what is on its disk;
// before, time does.
func TestSyncWithAppendOnlyFile(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{AppendOnly: true})
	r := checked(t, at(t, server))
	text, err := r.client.Info(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	f := readFacts(readInfo(text))
	if !f.aof {
		t.Fatal("the server has no append-only file")
	}
	want := uint64(0)
	if f.waitAOF() {
		want = 5
	}
	t.Logf("version %v, durable at once is %d", f.version, want)
	apply(t, r, 0, 5, set("a", "1"))
	began := time.Now()
	wantSync(t, r, want)
	t.Logf("it took %v", time.Since(began))
}

func TestReadFacts(t *testing.T) {
	for text, want := range map[string]facts{
		"redis_version:7.0.15\r\naof_enabled:1\r\n":                        {[2]int{7, 0}, 0, true},
		"# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n":      {[2]int{7, 2}, 0, false},
		"redis_version:8\nconnected_slaves:3\naof_enabled:0\n":             {[2]int{8, 0}, 3, false},
		"redis_version:255.255.255\r\nconnected_slaves:x\r\naof_enabled:1": {[2]int{255, 255}, 0, true},
		"": {},
	} {
		if got := readFacts(readInfo(text)); got != want {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
	for version, want := range map[[2]int]bool{{6, 2}: false, {7, 0}: false, {7, 2}: true, {8, 0}: true} {
		if got := (facts{version: version, aof: true}).waitAOF(); got != want {
			t.Errorf("%v: %v", version, got)
		}
	}
}

// TestGarbageMembers: an entry that nobody understands hides no other.
func TestGarbageMembers(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	keeper := &logKeeper{}
	c := at(t, server)
	c.Logger = keeper.logger()
	r := checked(t, c)
	key := membersKey(c.Mesh)
	later := fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
	for field, value := range map[string]string{
		"empty": "", "word": "nonsense", "number": "12x {}", "json": later + " {", "other": later + ` {"Node":"somebody else"}`,
		"": later + " {}", "array": later + " []", "over": `1 {"Node":"over"}`, "newer": later + ` {"Node":"newer","Color":"red"}`,
	} {
		if err := r.client.HSet(t.Context(), key, field, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.Announce(t.Context(), runtime.Member{Node: "me"}, time.Minute)
	if err != nil || len(got) != 2 || got[0].Node != "me" || got[1].Node != "newer" {
		t.Fatalf("%v, %v", got, err)
	}
	if !strings.Contains(keeper.String(), "skipped") {
		t.Error("the log says nothing")
	}
	if have, err := r.client.HExists(t.Context(), key, "over").Result(); err != nil || have {
		t.Errorf("an entry that was over is there: %v, %v", have, err)
	}
}
