package redis

import (
	"context"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Sync. What a crash leaves depends on the server:
//
//   - replicas: the position that all connected ones have as well (WAIT);
//   - an append-only file and WAITAOF (from 7.2): the position that is on its
//     disk, and at its replicas if it has any;
//   - else, and when these do not answer in time, the position that was the store's Config.SafeAfter ago, without a
//     gap in what this process knows about it since then.

const (
	safeMarks  = 100 // in the time of SafeAfter, per partition
	factsFor   = 10 * time.Second
	waitMillis = 500
	waitPause  = time.Second // after a wait in vain, which held up the changes behind it
)

// safety knows since when the store has been where. What it knows must be
// without a gap: a position that went back, or that somebody else moved, starts
// it anew.
type safety struct {
	after   int64  // milliseconds
	at      uint64 // as this process has last seen it
	marks   []mark // rising, about safeMarks
	old     uint64 // was there for so long
	durable uint64 // what Sync has returned
	server  facts
	asked   time.Time
	// waitNext is before when WAIT is not tried again.
	waitNext time.Time
}

type mark struct {
	applied uint64
	since   int64 // Unix milliseconds
}

// moved: this process applied from → to.
func (s *safety) moved(from, to uint64, now int64) {
	s.seen(from, now)
	if to == s.at {
		return
	}
	s.at = to
	// Of three marks that are close together the middle one goes: what it says
	// counts a little later, nothing counts too early.
	n := len(s.marks)
	if n >= 2 && now-s.marks[n-2].since < s.after/safeMarks {
		s.marks = s.marks[:n-1]
	}
	s.marks = append(s.marks, mark{to, now})
	s.age(now)
}

// seen: the store is at this position.
func (s *safety) seen(at uint64, now int64) {
	if s.at == at && len(s.marks) > 0 {
		return
	}
	s.at, s.marks, s.old, s.durable = at, []mark{{at, now}}, 0, 0
}

// age finds the highest position that is old enough; the last mark stays, as it
// says that there was one.
func (s *safety) age(now int64) uint64 {
	for len(s.marks) > 0 && s.marks[0].since <= now-s.after {
		s.old = max(s.old, s.marks[0].applied)
		if len(s.marks) == 1 {
			break
		}
		s.marks = s.marks[1:]
	}
	return s.old
}

// facts are what INFO says about the server that holds a partition.
type facts struct {
	version  [2]int
	replicas int
	aof      bool
}

// waits: the server can say what is safe.
func (f facts) waits() bool { return f.replicas > 0 || f.waitAOF() }

func (f facts) waitAOF() bool {
	return f.aof && (f.version[0] > 7 || f.version[0] == 7 && f.version[1] >= 2)
}

func readFacts(info map[string]string) facts {
	var f facts
	parts := strings.SplitN(info["redis_version"], ".", 3)
	for i := 0; i < len(parts) && i < 2; i++ {
		f.version[i], _ = strconv.Atoi(parts[i])
	}
	f.replicas, _ = strconv.Atoi(info["connected_slaves"])
	f.aof = info["aof_enabled"] == "1"
	return f
}

// readInfo reads the lines of INFO.
func readInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			info[key] = value
		}
	}
	return info
}

func (r *Redis) Sync(ctx context.Context, number uint16) (uint64, error) {
	p, err := r.partition(number)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	before := p.safe.durable
	candidate := p.safe.age(r.now())
	server, fresh := p.safe.server, r.clock().Sub(p.safe.asked) < factsFor
	useless := !server.waits() || r.clock().Before(p.safe.waitNext)
	p.mu.Unlock()
	if fresh && useless && candidate == before {
		return before, nil
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	conn, done, err := r.conn(ctx, p.keys[0])
	if err != nil {
		return 0, r.fault("reach the store", err)
	}
	defer done()
	if !fresh {
		if server, err = ask(ctx, conn); err != nil {
			return 0, r.fault("ask the store about itself", err)
		}
		p.mu.Lock()
		p.safe.server, p.safe.asked = server, r.clock()
		p.mu.Unlock()
	}
	if fresh && useless {
		server.replicas, server.aof = 0, false
	}
	applied, waited, err := r.mark(ctx, conn, p, server)
	if err != nil {
		if cluster, ok := r.client.(*goredis.ClusterClient); ok {
			cluster.ReloadState(ctx) // this way of asking does not follow what has moved
		}
		return 0, r.fault("make the store durable", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if applied < p.safe.at || len(p.safe.marks) == 0 {
		p.safe.seen(applied, r.now())
	}
	durable := max(p.safe.durable, p.safe.age(r.now()))
	if waited {
		durable = max(durable, applied)
	}
	p.safe.durable = durable
	return durable, nil
}

// ask reads the facts.
func ask(ctx context.Context, conn goredis.Cmdable) (facts, error) {
	text, err := conn.Info(ctx).Result()
	return readFacts(readInfo(text)), err
}

// mark writes something and waits until that, and so everything before it, is
// where it survives; waited is false when that cannot be had (now).
func (r *Redis) mark(ctx context.Context, conn *goredis.Conn, p *partition, server facts) (applied uint64, waited bool, err error) {
	list, err := r.list(r.scripts.mark.Run(ctx, conn, p.keys, r.identity))
	if err != nil {
		return 0, false, err
	}
	if applied, err = position(list[0]); err != nil || !server.waits() {
		return applied, false, err
	}
	waited, err = wait(ctx, conn, server)
	if err == nil && waited {
		return applied, true, nil
	}
	p.mu.Lock()
	p.safe.waitNext = r.clock().Add(waitPause)
	p.mu.Unlock()
	if err != nil {
		r.cfg.Logger.Warn("Redis does not say what is safe; what it has held for a while counts as that", "safe after", r.cfg.SafeAfter, "error", err)
	}
	return applied, false, nil
}

// wait is true when what this connection wrote is in the server's file, where
// it can say so, and at all its replicas.
func wait(ctx context.Context, conn *goredis.Conn, server facts) (bool, error) {
	if server.waitAOF() {
		got, err := conn.Do(ctx, "waitaof", 1, 0, waitMillis).Int64Slice()
		if err != nil || len(got) != 2 || got[0] < 1 {
			return false, err
		}
	}
	if server.replicas == 0 {
		return true, nil
	}
	got, err := conn.Wait(ctx, server.replicas, waitMillis*time.Millisecond).Result()
	return got >= int64(server.replicas), err
}
