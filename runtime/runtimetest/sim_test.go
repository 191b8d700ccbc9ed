package runtimetest

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func env(name string, def int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return def
}

// simKinds are the meshes that are simulated.
func simKinds(seed int64) []SimOptions {
	return []SimOptions{
		{Seed: seed, Partitions: 1, Nodes: 1, Millis: 20_000},
		{Seed: seed, Partitions: 1, Nodes: 2, Millis: 20_000},
		{Seed: seed, Partitions: 4, Nodes: 1, Millis: 20_000},
		{Seed: seed, Partitions: 4, Nodes: 2, Millis: 20_000},
		{Seed: seed, Partitions: 1, Nodes: 1, Millis: 20_000, HostLimit: 2},
		{Seed: seed, Partitions: 1, Nodes: 1, Millis: 20_000, Purge: true},
		{Seed: seed, Partitions: 4, Nodes: 2, Millis: 20_000, Purge: true},
	}
}

var idInText = regexp.MustCompile(`[0-9a-z]{26}`)

// explain is what a person needs to see of a failed run.
func explain(o SimOptions, r SimReport) string {
	text := r.Violations[0]
	words := append(idInText.FindAllString(text, -1), "node", "host ")
	return fmt.Sprintf("%+v\n%s\n%s", o, text, r.About(int(env("KAR_SIM_LINES", 60)), words...))
}

// TestSim plays some seeds; KAR_SIM_SEED (or KAR_SEED) plays one,
// KAR_SIM_RUNS many, KAR_SIM for that long.
func TestSim(t *testing.T) {
	first, runs := env("KAR_SIM_SEED", env("KAR_SEED", 0)), env("KAR_SIM_RUNS", 10)
	end := time.Time{}
	if d, err := time.ParseDuration(os.Getenv("KAR_SIM")); err == nil {
		end, runs = time.Now().Add(d), 1<<40
	}
	if first != 0 {
		runs = env("KAR_SIM_RUNS", 1)
	} else {
		first = 1
	}
	var total SimReport
	played := 0
	for seed := first; seed < first+runs; seed++ {
		if !end.IsZero() && time.Now().After(end) {
			break
		}
		for _, o := range simKinds(seed) {
			o.Bug = os.Getenv("KAR_SIM_BUG")
			r := Simulate(o)
			played++
			if len(r.Violations) > 0 {
				t.Errorf("%s", explain(o, r))
				if env("KAR_SIM_ALL", 0) == 0 {
					return
				}
			}
			total.Attempts += r.Attempts
			total.Requests += r.Requests
			total.Crashes += r.Crashes
			total.Losses += r.Losses
			total.Trims += r.Trims
			total.Fires += r.Fires
			total.Events += r.Events
		}
	}
	t.Logf("%d runs: %d requests, %d attempts, %d crashes, %d lost hosts, %d trims, %d firings, %d events",
		played, total.Requests, total.Attempts, total.Crashes, total.Losses, total.Trims, total.Fires, total.Events)
}

// TestSimSame: the same seed twice is the same run, to the last line.
func TestSimSame(t *testing.T) {
	for _, o := range simKinds(7) {
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
		{"before-durable", "P1", 66},
		{"drop-outbox", "P1", 0},
		{"lost-tail", "P2", 0},
		{"link-is-death", "P3", 0},
		{"no-freeze", "P3", 0},
		{"skip-p4", "P4", 0},
		{"early-ack", "P5", 0},
		{"early-deactivated", "P6", 0},
		{"forget-lock", "P7", 0},
		{"reminder-again", "P8", 0},
		{"event-twice", "P9", 0},
		{"late-writes", "P10", 0},
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
