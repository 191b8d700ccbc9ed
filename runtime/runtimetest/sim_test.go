package runtimetest

import (
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func env(name string, def int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return def
}

// simKinds are the meshes that are simulated; what happens in each is drawn.
func simKinds(seed int64) []SimOptions {
	kinds := []SimOptions{
		{Partitions: 1, Nodes: 1},
		{Partitions: 1, Nodes: 2},
		{Partitions: 4, Nodes: 1},
		{Partitions: 4, Nodes: 2},
		{Partitions: 1, Nodes: 1, HostLimit: 2},
		{Partitions: 1, Nodes: 1, Purge: true},
		{Partitions: 4, Nodes: 2, Purge: true},
	}
	for i := range kinds {
		draw := rand.New(rand.NewSource(seed*10 + int64(i)))
		k := &kinds[i]
		k.Seed, k.Millis = seed, 20_000
		k.Wild, k.Limits, k.Foreign = draw.Intn(3) == 0, draw.Intn(3) == 0, draw.Intn(3) == 0
		k.Store, k.Short, k.Jumps = draw.Intn(3) == 0, draw.Intn(3) == 0, draw.Intn(3) == 0
		k.Change, k.Burst = draw.Intn(3) == 0, draw.Intn(60) == 0
		k.Jumps = k.Jumps && !k.Short // what is too old would be anybody's guess
	}
	return kinds
}

var idInText = regexp.MustCompile(`[0-9a-z]{26}`)

// explain plays the run again and shows what a person needs to see of it.
func explain(o SimOptions) string {
	o.Trace, o.Records = true, true
	r := Simulate(o)
	if len(r.Violations) == 0 {
		return fmt.Sprintf("%+v: it does not fail again", o)
	}
	text := r.Violations[0]
	words := append(idInText.FindAllString(text, -1), "node", "host ", "drain", "purge", "faults")
	words = append(words, strings.Split(os.Getenv("KAR_SIM_WORDS"), ",")...)
	return fmt.Sprintf("%+v\n%s\n%s", o, text, r.About(int(env("KAR_SIM_LINES", 60)), words...))
}

// A simTotal sums up many runs.
type simTotal struct {
	SimReport
	played int
	failed []string // seed/kind, in order
	shown  string   // the first of them
}

func (t *simTotal) add(kind int, o SimOptions, r SimReport) {
	t.played++
	t.Attempts += r.Attempts
	t.Requests += r.Requests
	t.Crashes += r.Crashes
	t.Losses += r.Losses
	t.Trims += r.Trims
	t.Fires += r.Fires
	t.Events += r.Events
	t.Heals += r.Heals
	t.TooOld += r.TooOld
	if len(r.Violations) > 0 {
		t.failed = append(t.failed, fmt.Sprintf("%d/%d", o.Seed, kind))
		fmt.Printf("seed %d kind %d: %.300s\n", o.Seed, kind, r.Violations[0])
		if t.shown == "" {
			t.shown = explain(o)
		}
	}
}

// TestSim plays some seeds. KAR_SIM_SEED (or KAR_SEED) plays one; from there on
// KAR_SIM_RUNS plays many and KAR_SIM plays for that long, KAR_SIM_KIND one kind
// alone, on KAR_SIM_PROCS threads. The first failure ends it unless KAR_SIM_ALL is set.
func TestSim(t *testing.T) {
	first, seeds := env("KAR_SIM_SEED", env("KAR_SEED", 0)), env("KAR_SIM_RUNS", 10)
	end := time.Time{}
	if d, err := time.ParseDuration(os.Getenv("KAR_SIM")); err == nil {
		end, seeds = time.Now().Add(d), env("KAR_SIM_RUNS", 1<<40)
	} else if first != 0 {
		seeds = env("KAR_SIM_RUNS", 1)
	}
	if first == 0 {
		first = 1
	}
	if testing.Short() && os.Getenv("KAR_SIM_RUNS")+os.Getenv("KAR_SIM") == "" {
		seeds = min(seeds, 4)
	}
	only := int(env("KAR_SIM_KIND", -1))
	began := time.Now()
	var total simTotal
	var mu sync.Mutex
	var next atomic.Int64
	var stop atomic.Bool
	next.Store(first)
	var wg sync.WaitGroup
	for range env("KAR_SIM_PROCS", 1) {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed < first+seeds && !stop.Load(); seed = next.Add(1) - 1 {
				for kind, o := range simKinds(seed) {
					if only >= 0 && kind != only {
						continue
					}
					o.Bug = os.Getenv("KAR_SIM_BUG")
					r := Simulate(o)
					mu.Lock()
					total.add(kind, o, r)
					mu.Unlock()
					if len(r.Violations) > 0 && env("KAR_SIM_ALL", 0) == 0 || !end.IsZero() && time.Now().After(end) {
						stop.Store(true)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if total.shown != "" {
		t.Errorf("%s", total.shown)
	}
	t.Logf("%d runs from seed %d in %.0f s, %d failed %v: %d requests, %d attempts, %d crashes, %d lost hosts, %d trims, %d firings, %d events, %d stores healed, %d ids too old",
		total.played, first, time.Since(began).Seconds(), len(total.failed), total.failed,
		total.Requests, total.Attempts, total.Crashes, total.Losses, total.Trims, total.Fires, total.Events, total.Heals, total.TooOld)
}

// TestSimSame: the same seed twice is the same run, to the last line.
func TestSimSame(t *testing.T) {
	for _, o := range simKinds(7) {
		o.Trace = true
		a, b := Simulate(o), Simulate(o)
		if a.Trace != b.Trace {
			for i := range a.Tail {
				if i >= len(b.Tail) || a.Tail[i] != b.Tail[i] {
					t.Fatalf("%+v: line %d\n%s\n--\n%s", o, i, strings.Join(a.Tail[max(i-5, 0):i+1], "\n"), strings.Join(b.Tail[i:min(i+1, len(b.Tail))], ""))
				}
			}
			t.Fatalf("%+v: the second run is longer", o)
		}
	}
}

// TestSimSeesBugs: each promise has a defect that breaks it and that the
// witness reports as the breach of that promise.
func TestSimSeesBugs(t *testing.T) {
	for _, b := range []struct {
		bug, promise string
		first        int64 // a seed that shows it soon
	}{
		{"before-durable", "P1", 0},
		{"drop-outbox", "P1", 0},
		{"nameless-await", "P1", 72},
		{"lost-tail", "P2", 0},
		{"link-is-death", "P3", 2},
		{"no-freeze", "P3", 39},
		{"skip-p4", "P4", 0},
		{"early-ack", "P5", 0},
		{"early-deactivated", "P6", 0},
		{"forget-lock", "P7", 0},
		{"reminder-again", "P8", 0},
		{"spare-firing", "P8", 0},
		{"event-twice", "P9", 0},
		{"late-writes", "P10", 4},
	} {
		t.Run(b.bug, func(t *testing.T) {
			other := ""
			for seed := b.first; seed < b.first+150; seed++ {
				for _, o := range simKinds(seed) {
					o.Bug = b.bug
					for _, v := range Simulate(o).Violations {
						if strings.Contains(v, " "+b.promise+": ") {
							t.Logf("seed %d: %s", seed, v)
							return
						}
						other = v
					}
				}
			}
			t.Errorf("not seen; at most: %.200s", other)
		})
	}
}
