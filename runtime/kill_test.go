package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKillOwnerAtEveryKind plays the scenarios, with a header and everything
// kept after each command, and kills the owner whose record is the first or the
// last of its kind: of the round that holds it nothing behind it survives, and
// no effect. A new owner goes on from the log, with the messages between
// partitions. Then hosts come that answer everything: all that was accepted
// ends, no chain is away for ever, no message is left, nobody is waited for.
func TestKillOwnerAtEveryKind(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	met := map[uint64]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		if name == "void-records" {
			continue // it counts records itself
		}
		w := newWorld(t)
		w.playKept(string(b))
		first, last := map[uint64]int{}, map[uint64]int{}
		for i, kind := range w.kinds {
			if _, ok := first[kind]; !ok {
				first[kind] = i + 1
			}
			last[kind] = i + 1
		}
		var at []int
		for kind := range first {
			if !testing.Short() || !met[kind] {
				at = append(at, first[kind], last[kind])
			}
			met[kind] = true
		}
		slices.Sort(at)
		for _, n := range slices.Compact(at) {
			t.Run(fmt.Sprint(name, "/", n), func(t *testing.T) {
				w := newWorld(t)
				w.kill = n
				w.playKept(string(b))
				w.calm()
			})
		}
	}
	for kind := uint64(1); kind < lastKind; kind++ {
		if newBody(kind) != nil && !met[kind] && kind != kindClaimed {
			t.Errorf("no scenario leads to a record of kind %T", newBody(kind))
		}
	}
}

// playKept plays the commands of a scenario; all that is live is kept anew after each.
func (w *world) playKept(text string) {
	w.quiet = true
	for line := range strings.SplitSeq(text, "\n") {
		command, ok := strings.CutPrefix(line, "> ")
		if !ok || command == "show" || strings.HasPrefix(command, "crash") || strings.HasPrefix(command, "stale") {
			continue
		}
		w.command(command)
		w.quiet = true
		for _, p := range w.parts {
			p.core.Step(w.now, &Mark{})
			before := p.core.Seq()
			w.finish(p, "")
			if p.core.OldestLive() < before {
				p.core.Step(w.now, &Keep{Before: before, Limit: 1000})
				w.finish(p, "")
			}
		}
	}
}

// calm lets everything end.
func (w *world) calm() {
	w.held, w.deaf, w.kill, w.quiet, w.lean = false, -1, 0, true, false
	clear(w.silent)
	w.pump()
	for _, p := range w.parts {
		for _, a := range sortedActors(p.core.reminders) {
			w.step(p.n, &CancelReminders{Actor: a, Waiter: "calm"})
		}
		for _, a := range sortedActors(p.core.subs) {
			w.step(p.n, &Unsubscribe{Actor: a, Waiter: "calm"})
		}
	}
	left := ""
	for i := range 60 {
		w.host()
		for _, p := range w.parts {
			for _, boot := range sortedKeys(w.infos) {
				if i == 0 { // what went to it before is lost
					w.step(p.n, &HostUnlinked{Boot: boot})
				}
				w.step(p.n, &HostJoined{Info: w.infos[boot], Waiter: boot})
			}
			for _, id := range sortedIDs(p.core.entries) {
				e := p.core.entries[id]
				if e == nil {
					continue
				}
				for _, child := range sortedIDs(e.children) {
					if !w.isOpen(child) { // as the engine finds out
						w.step(p.n, &ChildClosed{Parents: []ID{id}, Child: child})
					}
				}
				if e := p.core.entries[id]; e != nil && e.phase == running {
					w.step(p.n, &Answered{Boot: e.host, Answer: Answer{Attempt: p.core.attemptOf(e), Outcome: &Outcome{Status: 200, Body: []byte("{}")}}})
				}
			}
			for _, a := range sortedActors(p.core.haunted) {
				for _, z := range slices.Clone(p.core.haunted[a].zombies) {
					w.step(p.n, &Answered{Boot: z.host, Answer: Answer{Attempt: Attempt{ID: z.id, Number: z.attempt}}})
				}
			}
			for _, a := range sortedActors(p.core.actors) {
				if x := p.core.actors[a]; x != nil && x.asking > 0 {
					w.step(p.n, &Deactivated{Boot: x.host, Actor: a})
				}
			}
		}
		if i%4 == 3 {
			w.command("jump 2m")
		}
		w.advance(2 * time.Second)
		left = ""
		for _, p := range w.parts {
			for _, x := range p.core.out {
				if len(x.pending) > 0 {
					left += "a message to another partition\n"
				}
			}
			if len(p.core.entries)+len(p.core.homes)+len(p.core.haunted) > 0 {
				left += p.core.Describe()
			}
		}
		if left == "" {
			return
		}
	}
	w.t.Errorf("this does not end:\n%s", w.withNames(left))
}

// host attaches a boot for each app that offers all that is waited for.
func (w *world) host() {
	for _, p := range w.parts {
		for _, id := range sortedIDs(p.core.entries) {
			t := p.core.entries[id].req.Target
			boot := "calm-" + t.App + "-" + t.Service
			info := w.infos[boot]
			info.Boot, info.App, info.Service, info.Grace = boot, t.App, t.Service, 6000
			if t.IsActor() && !slices.Contains(info.Actors, t.Type) {
				info.Actors = append(slices.Clone(info.Actors), t.Type)
			}
			w.infos[boot] = info
		}
	}
}

// isOpen tells whether a request is open anywhere.
func (w *world) isOpen(id ID) bool {
	return slices.ContainsFunc(w.parts, func(p *worldPart) bool { return p.core.entries[id] != nil || p.core.homes[id] != nil })
}
