package engine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Who is a member does not depend on the list alone: each gateway may be without
// it for a while, and two of them may read two lists. So a gateway also keeps
// streams to those that dial it, to those that it finds in the claims of logs,
// and to those that the others have streams to.

// An acquaintance is a gateway that was met otherwise than in the list.
type acquaintance struct {
	runtime.Member
	at time.Time // when it was met, or lost
}

// acquaintances bounds those that are met at a time.
const acquaintances = 1000

// meet has an unlisted gateway dialled; whether it is one of the mesh is proved there.
func (m *Mesh) meet(x runtime.Member) {
	o := m.owned
	o.mu.Lock()
	_, met := o.heard[x.Node]
	_, gone := o.dead[x.Node]
	if !met && !gone && x.Node != "" && x.Address != "" && x.Node != m.cfg.Node && !contains(o.members, x.Node) && len(o.heard) < acquaintances {
		o.heard[x.Node] = acquaintance{x, time.Now()}
	}
	o.mu.Unlock()
	m.acquaint()
}

// acquaint keeps streams to all who are known, and forgets those who are not
// any more.
func (m *Mesh) acquaint() {
	o := m.owned
	o.connecting.Lock() // what is known last is connected last
	defer o.connecting.Unlock()
	now := time.Now()
	o.mu.Lock()
	maps.DeleteFunc(o.heard, func(node string, a acquaintance) bool {
		_, gone := o.dead[node]
		return contains(o.members, node) || !o.up[node] && (gone || now.Sub(a.at) > 2*m.cfg.Shared.Lease)
	})
	known := o.knownLocked()
	for node := range o.since {
		if !contains(known, node) {
			delete(o.since, node)
			delete(o.parted, node)
		}
	}
	for i := range known {
		if _, found := o.since[known[i].Node]; !found {
			o.since[known[i].Node] = now
		}
	}
	for node, at := range o.dead { // for a while: it may be met again by a claim
		if !contains(known, node) && len(m.dir.ofNode(node)) == 0 && now.Sub(at) > time.Minute {
			delete(o.dead, node)
		}
	}
	o.mu.Unlock()
	m.peers.Connect(known)
}

// knownLocked are all gateways of which this one knows, alive or not.
func (o *ownerLoop) knownLocked() []runtime.Member {
	known := slices.Clone(o.members)
	add := func(x runtime.Member) {
		if x.Node != o.m.cfg.Node && !contains(known, x.Node) {
			known = append(known, x)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(o.heard)) {
		add(o.heard[node].Member)
	}
	for _, node := range slices.Sorted(maps.Keys(o.vouch)) {
		for _, x := range o.vouch[node] {
			add(x)
		}
	}
	return known
}

// answeringLocked are the gateways to which the streams stand.
func (o *ownerLoop) answeringLocked() (list []runtime.Member) {
	for _, x := range o.knownLocked() {
		if o.up[x.Node] {
			x.Owns = nil
			list = append(list, x)
		}
	}
	return list
}

func (o *ownerLoop) vouchedLocked(node string) bool {
	for _, list := range o.vouch {
		if contains(list, node) {
			return true
		}
	}
	return false
}

// vouchesLocked notes to whom a gateway with a stream to this one has others; true
// when these are other ones than before.
func (o *ownerLoop) vouchesLocked(from string, knows []runtime.Member) bool {
	if !o.up[from] {
		return false
	}
	before := o.vouch[from]
	o.vouch[from] = knows
	return !slices.EqualFunc(before, knows, func(a, b runtime.Member) bool { return a.Node == b.Node && a.Address == b.Address })
}

// meLocked is this gateway's entry, without what it owns.
func (o *ownerLoop) meLocked() runtime.Member {
	s := o.m.cfg.Shared
	return runtime.Member{
		Node: o.m.cfg.Node, Address: s.Address, Version: s.Version, Level: o.m.cfg.Level, Log: s.Log,
		Leaving: o.idleLocked(), Lease: o.m.cfg.Lease.Milliseconds(), GatewayLease: s.Lease.Milliseconds(), Joined: o.joined, Shuns: o.shunnedLocked(),
	}
}

// learnOf takes what is said about what another gateway owns; who has a stream
// says it there, and later.
func (m *Mesh) learnOf(x *runtime.Member) {
	m.owned.mu.Lock()
	up, me := m.owned.up[x.Node], m.owned.meLocked()
	m.owned.mu.Unlock()
	if x.Node != m.cfg.Node && !up && !runtime.OtherLog(&me, x) {
		m.learn(x.Node, x.Owns)
	}
}

// A doubt is about the claim of another gateway that may live.
type doubt struct {
	epoch        uint64
	node         string
	since, until time.Time
}

// A loss counts how often a partition went to a gateway that could not be asked.
type loss struct {
	to    string
	count int
}

// doubt tells that a partition, whose log was just read, is to be left alone for
// now: who has claimed it last may live. An error says that it stays so. Known is the
// last term that this gateway has heard of from others.
func (o *ownerLoop) doubt(p uint16, known uint64, core *runtime.Core) (bool, error) {
	claimer, address := core.LastClaim()
	claimer, _, _ = strings.Cut(claimer, "/")
	m, lease := o.m, o.m.cfg.Shared.Lease
	now := time.Now()
	o.mu.Lock()
	if o.ousted[p] && claimer != m.cfg.Node {
		if l := o.losses[p]; !o.up[claimer] {
			if l.to != claimer {
				l = loss{to: claimer}
			}
			l.count++
			o.losses[p] = l
		}
	}
	delete(o.ousted, p)
	d := o.doubts[p]
	if d.epoch != core.Epoch() {
		d = doubt{epoch: core.Epoch(), node: claimer, since: now}
	}
	live, _ := o.liveLocked()
	v := runtime.ClaimView{
		Me: m.cfg.Node, Claimer: claimer, Found: core.Epoch(), Known: known,
		Gone: o.isDead(claimer), Told: o.told[claimer],
		Waited: int64(now.Sub(d.since)), Lease: int64(lease),
	}
	for i := range live {
		v.Alive = v.Alive || live[i].Node == claimer && !live[i].Leaving
	}
	if l := o.losses[p]; l.to == claimer {
		v.Losses = l.count
	}
	step := runtime.NextClaimStep(&v)
	d.until = d.since.Add(time.Duration(runtime.ClaimPatience(v.Losses, v.Lease)))
	o.doubts[p] = d
	if step == runtime.ClaimNow {
		delete(o.doubts, p)
	}
	o.mu.Unlock()
	switch {
	case step == runtime.ClaimNever:
		m.learn(claimer, []runtime.PartitionEpoch{{Partition: p, Epoch: v.Found}})
	case step == runtime.ClaimLater && !v.Alive:
		m.meet(runtime.Member{Node: claimer, Address: address})
	}
	if step == runtime.ClaimLost {
		return true, runtime.Errorf(runtime.CodeDamaged, "the log ends in term %d, and a gateway has owned the partition in term %d: the log has lost records, or is another one", v.Found, known)
	}
	return step != runtime.ClaimNow, nil
}
