package runtime

import "slices"

// Level is the highest level of records that this version reads and writes. A
// new kind of record, or a field that may not be skipped, needs a new one, and
// is written only in logs whose LogLevel has reached it.
const Level = 2

// MeshLevel is the level that all of some gateways read, 0 without any.
func MeshLevel(members []Member) int {
	least := 0
	for i := range members {
		if l := max(members[i].Level, 1); least == 0 || l < least {
			least = l
		}
	}
	return least
}

// RaiseLevel lets records of a level stand in this log. Nothing is done when it
// has been reached.
type RaiseLevel struct{ Level int }

func (in *RaiseLevel) decide(c *Core) {
	if in.Level > c.LogLevel() && in.Level <= c.supports() {
		c.emit(&raised{in.Level})
		c.effect(Effect{Kind: GroupsChanged})
	}
}

// LogLevel is the level of the records that may stand in this log.
func (c *Core) LogLevel() int { return max(c.level, 1) }

// Who should own a partition. Nothing here is needed for safety, which comes
// from the log alone: this only says which gateway should try, and when.

// Preferred is the gateway that should own a partition: the highest score of
// those that may (rendezvous hashing), so that a gateway that comes or goes
// moves only its own share. One that could not write to its log comes behind all that
// might. "" when there is none.
func Preferred(partition uint16, members []Member) string {
	best, score, shuns := "", uint64(0), false
	for i := range members {
		m := &members[i]
		if m.Leaving {
			continue
		}
		s, behind := mix(hash64(m.Node)+uint64(partition)*0x9e3779b97f4a7c15), slices.Contains(m.Shuns, partition)
		if best == "" || shuns && !behind || shuns == behind && (s > score || s == score && m.Node < best) {
			best, score, shuns = m.Node, s, behind
		}
	}
	return best
}

// mix spreads every bit of x over the whole result (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// An OwnershipStep is what a gateway should do about a partition.
type OwnershipStep uint8

const (
	// Leave it as it is.
	OwnershipKeep OwnershipStep = iota
	// Claim it: nobody who lives owns it.
	OwnershipClaim
	// Ask the living owner to hand it over.
	OwnershipAsk
)

// OwnershipView is what a gateway knows about a partition.
type OwnershipView struct {
	Partition uint16
	Me        string
	// Live are the gateways that are alive as far as this one knows, itself included.
	Live []Member
	// Owner is the last known one, "" when nobody is known to own it.
	Owner string
	// Complete tells that every living gateway has said what it owns; without
	// that, an owner that is not known may live all the same.
	Complete bool
	// Cut are gateways that may live and own something, to whom this one has no stream,
	// and none to one that has; Apart are those of them for whom that has been so for long.
	Cut, Apart []string
	// Met: this gateway had a stream at some time, or owns something. Stale: the list of
	// gateways cannot be read, and does not say who of them lives.
	Met, Stale bool
	// Vacant is for how long nobody who lives has owned the partition in the eyes of
	// this gateway, in the unit of Lease.
	Vacant, Lease int64
}

// loneTries is how long a gateway leaves what nobody owns to those that can reach each
// other, in gateway leases.
const loneTries = 8

// Vacated tells that nobody who lives is known to own the partition.
func (v *OwnershipView) Vacated() bool { return v.Owner == "" || v.member(v.Owner) == nil }

// member is one of those that live, or nil.
func (v *OwnershipView) member(node string) *Member {
	for i := range v.Live {
		if v.Live[i].Node == node {
			return &v.Live[i]
		}
	}
	return nil
}

// missing is the number of the others that live and stay, and to or from whom a gateway
// has no stream.
func (v *OwnershipView) missing(m *Member) (n int) {
	for i := range v.Live {
		o := &v.Live[i]
		if o.Node != m.Node && !o.Leaving && !slices.Contains(v.Apart, o.Node) && (slices.Contains(m.Lacks, o.Node) || slices.Contains(o.Lacks, m.Node)) {
			n++
		}
	}
	return n
}

// NextOwnershipStep is the rule of who claims and who hands over: the preferred
// gateway acts, all others wait for it. Nobody claims from a living owner.
//
// What nobody owns is for gateways that others can reach: one that is apart from all
// whom this one reaches is not waited for, and a lone one lets the others go first. It
// claims in the end, for they may all be as lone as it is; but one that nobody has
// ever reached needs the list to say so.
//
// An owner that stays is asked only by one that has streams to and from every other
// gateway, for what components there do has to reach the owner: it loses nothing by
// waiting. What an owner leaves, and what nobody owns, is for one that lacks the fewest.
func NextOwnershipStep(v *OwnershipView) OwnershipStep {
	if v.Owner == v.Me {
		return OwnershipKeep
	}
	if !v.Vacated() {
		if v.next(v.Owner) != v.Me || slices.Contains(v.Apart, v.Owner) {
			return OwnershipKeep
		}
		return OwnershipAsk
	}
	switch {
	case v.Owner == "" && !v.Complete, v.heir() != v.Me, v.lone() && (v.Vacant < loneTries*v.Lease || v.Stale && !v.Met):
		return OwnershipKeep
	}
	return OwnershipClaim
}

// next is to whom a living owner should give the partition, "" for nobody.
func (v *OwnershipView) next(owner string) string {
	if m := v.member(owner); m != nil && m.Leaving {
		return v.heir()
	}
	best := Preferred(v.Partition, v.Live)
	if m := v.member(best); m == nil || v.missing(m) > 0 {
		return ""
	}
	return best
}

// heir is who should own what nobody owns, or what its owner leaves: of those that are not
// apart, and may be able to write, one that lacks the fewest streams.
func (v *OwnershipView) heir() string {
	var near []Member
	fewest := 0
	for i := range v.Live {
		m := &v.Live[i]
		if m.Leaving || slices.Contains(v.Apart, m.Node) || slices.Contains(m.Shuns, v.Partition) {
			continue
		}
		n := v.missing(m)
		if len(near) == 0 || n < fewest {
			near, fewest = near[:0], n
		}
		if n == fewest {
			near = append(near, *m)
		}
	}
	if node := Preferred(v.Partition, near); node != "" {
		return node
	}
	return Preferred(v.Partition, v.Live)
}

// lone tells that this gateway and those that it reaches are fewer than the others; or
// as many, when nobody has ever reached it: of two that have lost each other both go on.
func (v *OwnershipView) lone() bool {
	with := 0
	for i := range v.Live {
		if m := &v.Live[i]; !m.Leaving && !slices.Contains(v.Cut, m.Node) {
			with++
		}
	}
	return with < len(v.Cut) || with == len(v.Cut) && !v.Met
}

// MayHandOver is the owner's side of it, whose view it is: a partition is given only to the
// gateway that should have it in the owner's eyes too, so that two who see
// different members do not take it from each other in turn; and only to one that has
// found the owner's own term at the end of its log: else it reads another log, or one
// that went back, and what it claims there it does not have.
func MayHandOver(v *OwnershipView, to string, term, read uint64) bool {
	return v.next(v.Me) == to && term == read
}

// How long a gateway goes on trying to write to a log while others could have the
// partition, in gateway leases: one that owns it, and one that is about to, for which
// everybody waits.
const (
	ownerTries = 5
	takerTries = 3
)

// A WriteView is what a gateway knows of a log to which its appends do not get through,
// whether they are refused or have no answer.
type WriteView struct {
	// Owner: it owns the partition, or it is about to; OwnsNone: it owns nothing at all.
	Owner, OwnsNone bool
	// Failing is for how long no append to this log has come back, in the unit of Lease.
	Failing, Lease int64
	// Heir: another gateway may own the partition, and has not found that it cannot
	// write to its log either. Heirs: another gateway may own anything.
	Heir, Heirs bool
	// Takes: another log takes appends of this gateway. That it can be read proves
	// nothing.
	Takes bool
}

// A WriteStep is what a gateway does about a log to which it cannot write.
type WriteStep uint8

const (
	// Go on trying: nobody is better off.
	WriteOn WriteStep = iota
	// Leave the partition to others for a while: either it is this log that nobody can
	// write to, and they find that out in their turn, or it is the way from here.
	WriteShun
	// Own nothing until an append comes back.
	WriteUnfit
)

// WritePatience is how long it goes on in any case.
func WritePatience(owner bool, lease int64) int64 {
	if owner {
		return ownerTries * lease
	}
	return takerTries * lease
}

// NextWriteStep is the rule of who gives up. Each partition goes round once: when all
// have found that they cannot write to it, the preferred one waits for its log.
func NextWriteStep(v *WriteView) WriteStep {
	switch {
	case v.Failing < WritePatience(v.Owner, v.Lease):
	case !v.Takes && v.Heirs && (v.OwnsNone || v.Failing >= WritePatience(true, v.Lease)):
		return WriteUnfit
	case v.Heir:
		return WriteShun
	}
	return WriteOn
}

// ShunFor is how long a gateway leaves a partition to others that it has left to them
// so many times before: what fails again and again moves ever more seldom.
func ShunFor(times int, lease int64) int64 {
	return lease << (5 + 2*min(max(times, 0), 3))
}

// VoidRecord is a record that means nothing to whoever reads it, wherever it stands
// behind the first claim: who appends it finds out whether it can.
func VoidRecord() []byte { return EncodeRecord(&Record{Body: &claimed{}}) }

// AnswersAtOnce tells whether who has claimed a term may answer at once: nobody was
// before it, or the owner of the term before has handed it over and believes in
// itself no more. That an owner cannot be reached, or that its address refuses or is
// another's now, proves nothing about its process.
func AnswersAtOnce(step OwnershipStep, from, claimed uint64) bool {
	return claimed <= 1 || step == OwnershipAsk && claimed == from+1
}

// ClaimEpoch tells whether an encoded record is a claim, and of which term.
func ClaimEpoch(b []byte) (epoch uint64, ok bool) {
	var e envelope
	if decode(b, &e) != nil || e.kind != kindClaimed {
		return 0, false
	}
	return e.epoch, true
}

// Prove makes the owner append a record that says nothing: when it comes back
// in its place, this gateway still was the owner when it sent it.
type Prove struct{}

func (*Prove) decide(c *Core) { c.emit(&alive{}) }

// Attended tells whether anybody waits for this owner: hosts, or open requests.
// Then it must notice when it has been deposed.
func (c *Core) Attended() bool {
	return len(c.entries) > 0 || len(c.homes) > 0 || len(c.offers) > 0 || len(c.hosts) > 0
}

// HostsBeat are signs of life of several hosts; the reply's Value is the list
// of those that were counted lost, []string.
type HostsBeat struct {
	Boots  []string
	Waiter any
}

func (in *HostsBeat) decide(c *Core) {
	lost := []string{}
	for _, boot := range in.Boots {
		if c.isLost(boot) {
			lost = append(lost, boot)
		} else if h := c.hosts[boot]; h != nil {
			h.contact = c.now.Mono
		}
	}
	c.replyValue(in.Waiter, lost)
}

// Answers tells whether the effects decided so far let somebody know something.
func (c *Core) Answers() bool { return len(c.effects) > 0 }

// Question tells an input that somebody asked and can be told that it was not
// decided, from news that must not be dropped.
func Question(in Input) bool {
	switch in.(type) {
	case *HostJoined:
		return false
	}
	return WaiterOf(in) != nil
}

// AskedAgain names what another partition or gateway says again as long as it has no
// answer: one that waits to be decided is enough, and it may be lost. Nil for all else.
func AskedAgain(in Input) any {
	switch in := in.(type) {
	case *Deliver:
		return askedAgain{kind: "message", from: in.From, n: in.N}
	case *FenceAsk:
		return askedAgain{kind: "fence", from: in.From}
	case *GroupAsk:
		return *in
	case *BesideAsk:
		return askedAgain{kind: "beside", from: in.From, what: in.Boot}
	case *RaiseLevel:
		return askedAgain{kind: "raise"}
	}
	return nil
}

type askedAgain struct {
	kind string
	from uint16
	n    uint64
	what string
}

// LastChange is the position of the last record that means something for the
// store: a store that is complete up to there lacks nothing.
func (c *Core) LastChange() uint64 { return c.changed }
