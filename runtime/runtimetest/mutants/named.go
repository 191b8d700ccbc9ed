package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A byHand is a bug that somebody once planted and no test saw, or that only
// one way of testing saw. Old must be in the file exactly once.
type byHand struct {
	name, file, old, text string
}

func byHands() []byHand {
	return []byHand{
		{"S2 what a term has read stays when its fold begins anew", "runtime/engine/term.go",
			`if begins {`,
			`if false {`},
		{"S3 a waiter of accepted work is told that nothing was accepted", "runtime/engine/partition.go",
			`if e.Outcome != nil {`,
			`if false {`},
		{"S4 a stuck log drops what hosts report", "runtime/engine/appending.go",
			`rest = append(rest, in)`,
			``},
		{"T1 an owner's proof counts from the answer", "runtime/engine/appending.go",
			`p.m.stamp(sent)`,
			`p.m.stamp(sent.Add(time.Since(sent)))`},
		{"T2 a partition is given to who has left", "runtime/engine/taking.go",
			`given = ctx.Err() == nil && may()`,
			`given = ctx.Err() == nil`},
		{"T3 an owner of a later term does not ask a host to join", "runtime/engine/joins.go",
			`!ok || now.Epoch > e {`,
			`!ok && now.Epoch > e {`},
		{"T4 what a fallen store has lost counts as durable there", "runtime/engine/applier.go",
			`a.known, a.synced = false, min(a.synced, got)`,
			`a.known = false`},
		{"T5 nothing of a batch counts that a claim cuts in two", "runtime/engine/term.go",
			`p.unsure = p.unsure || len(at) > 0`,
			`p.unsure = p.unsure && len(at) > 0`},
		{"T6 a refusal answers for an earlier try of unknown fate", "runtime/engine/ops.go",
			`if open { // which says nothing`,
			`if false { // which says nothing`},
		{"T7 an owner takes back what another one has claimed", "runtime/engine/term.go",
			`if p.m.cfg.Shared != nil && t.core.Epoch() > p.epoch.Load() {`,
			`if false {`},
		{"S1 a reader looks at a header's number alone", "runtime/fold.go",
			`return h.terms != 0 && h.terms != c.terms`,
			`return false`},
		{"R9 the limits of guests count while the request is delayed", "runtime/guests.go",
			`return max(g.since, e.since)`,
			`return g.since`},
		{"R9 a place in the list of another owner is believed", "runtime/query.go",
			`term == utoa(c.epoch)`,
			`term != ""`},
		{"M02 no fence", "runtime/submit.go",
			`if v.Epoch < c.fences[v.Partition] {`,
			`if false {`},
		{"M04 kept requests forget parents", "runtime/keep.go",
			`step: e.step, parents: e.parents,`,
			`step: e.step,`},
		{"M05 kept requests forget parentEpoch", "runtime/keep.go",
			`parentEpoch: e.parentEpoch, parentStep: e.parentStep, at: e.at, reminder: e.fired.name(),`,
			`parentStep: e.parentStep, at: e.at, reminder: e.fired.name(),`},
		{"H17 kept requests forget their caller's step", "runtime/keep.go",
			`parentEpoch: e.parentEpoch, parentStep: e.parentStep, at: e.at, reminder: e.fired.name(),`,
			`parentEpoch: e.parentEpoch, at: e.at, reminder: e.fired.name(),`},
		{"M09 the header forgets fences", "runtime/claim.go",
			`h.fences = append(h.fences, counter{q, n})`,
			``},
		{"M10 a trim forgets lost boots", "runtime/keep.go",
			`c.emit(&hostLost{boot: o.boot, at: o.at, beside: o.beside})`,
			`c.dropLost(o)`},
		{"M11 a kept reminder forgets its firing", "runtime/keep.go",
			`return &keptReminder{o.Reminder, o.firing}`,
			`return &keptReminder{o.Reminder, ID{}}`},
		{"M13 a limit before the first start ends a step of a chain", "runtime/entities.go",
			`func (e *entry) hasStarted() bool { return e.attempt > 0 || e.step > 0 }`,
			`func (e *entry) hasStarted() bool { return e.attempt > 0 }`},
		{"M17 a kept home forgets its key", "runtime/keep.go",
			"case *homeEntry:\n\t\treturn",
			"case *homeEntry:\n\t\to = &homeEntry{req: o.req, flow: o.flow, parents: o.parents, at: o.at}\n\t\to.req.Key = \"\"\n\t\treturn"},
		{"M18 a kept home forgets its parents", "runtime/keep.go",
			`home: c.cfg.Partition, parents: o.parents, parentPart: o.parentPart,`,
			`home: c.cfg.Partition, parentPart: o.parentPart,`},
		{"D1 an actor starts what is new while a purge goes on", "runtime/schedule.go",
			`if x := c.purgingOf(a.actor.App); x != nil {`,
			`if x := c.purgingOf(a.actor.App); x != nil && a.locked() {`},
		{"D2 a purge waits for what its host never got", "runtime/pieces.go",
			`e.inside = e.inside || lost && !r.knows(at)`,
			`e.inside = e.inside && lost`},
		{"D3 another owner goes on where the one before was with its answer", "runtime/fences.go",
			`if in.Term != c.epoch {`,
			`if in.Term == 0 {`},
		{"M19 groups are never unblocked", "runtime/groups.go",
			`g != nil && (c.unfinished(g) >= groupLimit/2 || g.heavy(c.cfg.WorkBytes/2) || c.busy(g.members[0].Actor.App)) {`,
			`g != nil {`},
		{"M43 kept requests forget that they were cancelled", "runtime/keep.go",
			`phase: uint64(e.phase), cancelled: e.cancelled,`,
			`phase: uint64(e.phase),`},
		{"M45 the end of a term leaves waiters of chains that are away", "runtime/claim.go",
			`for _, w := range c.homes[id].waiters {`,
			`for _, w := range c.homes[id].waiters[:0] {`},
		{"M46 events of an earlier life of a group", "runtime/subscribe.go",
			`if in.From > g.next {`,
			`if false {`},
		{"H02 the key of an earlier life is honoured", "runtime/outcome.go",
			`if b == nil || decode(b, &k) != nil || k.gen != c.generation(r.Target.App) || ended`,
			`if b == nil || decode(b, &k) != nil || ended`},
		{"H06 a chain that comes home after its cancel runs on", "runtime/homes.go",
			`if c.wishes[e.req.ID] != nil || h != nil && h.cancelled {`,
			`if c.wishes[e.req.ID] != nil || h != nil && h.cancelled && false {`},
		{"H15 seats of ended chains stay among the calls from elsewhere", "runtime/homes.go",
			`c.abroad[h.parentPart].remove(h.abroad)`,
			`_ = h.abroad`},
		{"C12 apps that name the same group share it", "runtime/subscribe.go",
			`if s.Group == "" || c.LogLevel() < 2 {`,
			`if true {`},
		{"M49 kept requests forget deadline and limits", "runtime/keep.go",
			`func (c *Core) keptOf(e *entry) *keptRequest {`,
			"func (c *Core) keptOf(e *entry) *keptRequest {\n\td := *e\n\te = &d\n\te.req.Deadline, e.req.NoHost, e.req.Busy = 0, 0, 0"},
		{"M53 a stopped attempt's session is honoured", "runtime/session.go",
			`if !answered && (e.phase != running || e.step != p.step ||`,
			`if !answered && (e.step != p.step ||`},
		{"M55 an outcome is stored under the last step's request", "runtime/finish.go",
			`if h := c.homes[e.req.ID]; h != nil {`,
			`if h := c.homes[e.req.ID]; h != nil && false {`},
		{"M58 draining hosts get new work", "runtime/hosts_rules.go",
			`func (h *hostEntry) willing() bool { return !h.info.Draining && !h.info.Frozen }`,
			`func (h *hostEntry) willing() bool { return !h.info.Frozen }`},
	}
}

// named makes mutants of those written by hand; a text that has changed must
// be written anew, or its bug would count as killed for ever.
func named(root string) ([]mutant, error) {
	var out []mutant
	var errs []error
	for _, h := range byHands() {
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(h.file)))
		if err != nil {
			return nil, err
		}
		if n := bytes.Count(src, []byte(h.old)); n != 1 {
			errs = append(errs, fmt.Errorf("%s: %s has its text %d times, write it anew", h.name, h.file, n))
			continue
		}
		at := bytes.Index(src, []byte(h.old))
		out = append(out, mutant{
			name: h.name, file: h.file, line: 1 + bytes.Count(src[:at], []byte("\n")),
			from: at, to: at + len(h.old), text: h.text, src: src,
		})
	}
	return out, errors.Join(errs...)
}
