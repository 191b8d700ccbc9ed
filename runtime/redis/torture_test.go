package redis

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// A tape is a log of mutations with the content at each position.
type tape struct {
	writes  []runtime.Mutation // writes[i] leads from i to i+1
	content []map[string]string
}

func newTape(seed uint64, length int) *tape {
	rng := rand.New(rand.NewPCG(seed, 1))
	l := &tape{content: []map[string]string{{}}}
	for i := range length {
		now := maps.Clone(l.content[i])
		k := fmt.Sprintf("%c/%c", 'a'+rng.IntN(6), 'a'+rng.IntN(20))
		m := set(k, fmt.Sprint(i))
		switch n := rng.IntN(20); {
		case n == 0:
			m = prefix(k[:1+rng.IntN(2)])
			maps.DeleteFunc(now, func(have, _ string) bool { return strings.HasPrefix(have, string(m.Key)) })
		case n < 4:
			m = runtime.Mutation{Key: []byte(k)}
			delete(now, k)
		default:
			now[k] = fmt.Sprint(i)
		}
		l.writes, l.content = append(l.writes, m), append(l.content, now)
	}
	return l
}

// TestTorture: two owners that both believe to be the one write the same log
// from wherever the store says it is, while connections are cut and the server
// is killed, stalled and emptied. Every read, of either, is the content of the
// position that comes with it.
func TestTorture(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lasts := 4 * time.Second
	if os.Getenv("KAR_SOAK") != "" {
		lasts = 3 * time.Minute
	}
	server := parts.NeedRedis(t, parts.RedisOptions{AppendOnly: true, AppendSync: "always"})
	log := newTape(seed, 4000)
	end := uint64(len(log.writes))
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var all gosync.WaitGroup
	var wrote, moved, read, failed atomic.Int64
	for owner := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 10+owner))
		cut := &cutDialer{}
		var fate gosync.Mutex
		cut.write.Store(func([]byte) bool { fate.Lock(); defer fate.Unlock(); return rng.IntN(300) == 0 })
		c := at(t, server)
		c.Dial, c.Timeout = cut.dial, 300*time.Millisecond
		r := open(t, c)
		luck := rand.New(rand.NewPCG(seed, 20+owner))
		all.Go(func() {
			at := uint64(0)
			for ctx.Err() == nil {
				to := min(at+1+luck.Uint64N(40), end)
				breath, stop := context.WithTimeout(ctx, time.Duration(luck.IntN(2000))*time.Microsecond)
				<-breath.Done()
				stop()
				if at == end { // start over
					if err := server.Flush(ctx); err != nil {
						continue
					}
					at, to = 0, 1
				}
				got, err := r.Apply(ctx, 0, at, to, log.writes[at:to])
				switch {
				case err != nil:
					failed.Add(1)
				case got == to:
					wrote.Add(1)
					at = got
				default:
					moved.Add(1)
					at = got
				}
			}
		})
		for reader := range uint64(2) {
			luck := rand.New(rand.NewPCG(seed, 30+10*owner+reader))
			all.Go(func() {
				for ctx.Err() == nil {
					part := []string{"a/", "b", "c/", "d/", "e", "f/", ""}[luck.IntN(7)]
					position, got, err := readPart(ctx, r, part)
					if err != nil {
						if !strings.HasPrefix(err.Error(), "redis_") && !strings.HasPrefix(err.Error(), "store_away") && ctx.Err() == nil {
							t.Error(err)
						}
						continue
					}
					read.Add(1)
					want := maps.Clone(log.content[position])
					maps.DeleteFunc(want, func(k, _ string) bool { return !strings.HasPrefix(k, part) })
					if !maps.Equal(got, want) {
						t.Errorf("at %d a read of %q finds %v, and the log has %v", position, part, got, want)
						return
					}
				}
			})
		}
	}
	all.Go(func() {
		luck := rand.New(rand.NewPCG(seed, 3))
		for ctx.Err() == nil {
			pause, stop := context.WithTimeout(ctx, time.Duration(200+luck.IntN(600))*time.Millisecond)
			<-pause.Done()
			stop()
			switch luck.IntN(3) {
			case 0:
				_ = server.Kill()
				if err := server.Start(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
				}
			case 1:
				_ = server.Pause()
				pause, stop := context.WithTimeout(ctx, time.Duration(luck.IntN(500))*time.Millisecond)
				<-pause.Done()
				stop()
				_ = server.Resume()
			case 2:
				_ = server.Flush(ctx)
			}
		}
	})
	all.Wait()
	t.Logf("%d batches written, %d turned away, %d failed, %d reads", wrote.Load(), moved.Load(), failed.Load(), read.Load())
	if wrote.Load() < 50 || read.Load() < 50 || moved.Load() == 0 || failed.Load() == 0 {
		t.Error("too little happened to prove anything")
	}
}

// readPart scans a prefix and looks some of its keys up again.
func readPart(ctx context.Context, r *Redis, part string) (position uint64, got map[string]string, err error) {
	err = r.Read(ctx, 0, func(s runtime.Snapshot) error {
		got = map[string]string{}
		first, err := s.Get([]byte((part + "a")[:1] + "/f"))
		if err != nil {
			return err
		}
		if err := s.Scan([]byte(part), func(k, v []byte) bool { got[string(k)] = string(v); return true }); err != nil {
			return err
		}
		for i := range 3 {
			k := fmt.Sprintf("%s/%c", (part + "a")[:1], 'a'+i)
			v, err := s.Get([]byte(k))
			if err != nil {
				return err
			}
			if have, ok := got[k]; ok != (v != nil) || have != string(v) {
				return fmt.Errorf("%s is %q by scan and %q by get", k, have, v)
			}
		}
		if k := (part + "a")[:1] + "/f"; got[k] != string(first) {
			return fmt.Errorf("%s is %q by get and then %q by scan", k, first, got[k])
		}
		position = s.Applied()
		return nil
	})
	return position, got, err
}
