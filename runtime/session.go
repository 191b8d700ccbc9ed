package runtime

import (
	"slices"
	"strconv"
	"strings"
)

// The session given to an invocation is flow:request:partition.step.attempt.epoch.
// Apps pass it on unread. KAR 1.x made it of flow and request only.

func (c *Core) sessionOf(e *entry) string {
	b := make([]byte, 0, 80)
	b = e.flow.appendTo(b)
	b = append(b, ':')
	b = e.req.ID.appendTo(b)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(c.cfg.Partition), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(e.step), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(e.attempt), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, e.epoch, 10)
	return string(b)
}

type sessionParts struct {
	flow, parent  ID
	partition     uint16
	step, attempt uint32
	epoch         uint64
	ours          bool // made by this runtime
}

// parseSession refuses only what no session can be; a session that an app made
// up parses with ours false.
func parseSession(s string) (sessionParts, *Error) {
	var p sessionParts
	if len(s) > 512 {
		return p, Errorf(CodeBadSession, "the session is %d bytes long", len(s))
	}
	for i := range len(s) {
		b := s[i]
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("._:-", b) >= 0) {
			return p, Errorf(CodeBadSession, "the session has a character that no session has, %q", b)
		}
	}
	part := strings.Split(s, ":")
	p.flow, _ = parseQuiet(part[0])
	if len(part) < 3 {
		return p, nil
	}
	parent, ok := parseQuiet(part[1])
	num := strings.Split(part[2], ".")
	if !ok || p.flow.IsZero() || len(num) != 4 {
		return p, nil
	}
	var n [4]uint64
	for i, x := range num {
		v, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return p, nil
		}
		n[i] = v
	}
	p.parent, p.partition, p.step, p.attempt, p.epoch = parent, uint16(n[0]), uint32(n[1]), uint32(n[2]), n[3]
	p.ours = true
	return p, nil
}

func parseQuiet(s string) (ID, bool) {
	if len(s) != 26 {
		return ID{}, false
	}
	id, err := ParseID(s)
	return id, err == nil
}

// SessionPartition is the partition that must vouch for a call with this
// session; ok is false when the session names none.
func SessionPartition(session string) (partition uint16, ok bool) {
	p, err := parseSession(session)
	return p.partition, err == nil && p.ours
}

// session finds flow and parents of a call (design: Callers and retries). A
// session of another app is like one made up: nobody makes a neighbour's methods
// wait.
func (c *Core) session(r *Request) (flow ID, parents []ID, err *Error) {
	p, err := parseSession(r.Session)
	if err != nil {
		return ID{}, nil, err
	}
	if err := c.lostCaller(r.Boot); err != nil {
		return ID{}, nil, err
	}
	if p.ours && p.partition == c.cfg.Partition && p.parent.OfApp(r.Target.App) {
		if e := c.entries[p.parent]; e != nil && e.flow == p.flow && e.req.Target.App == r.Target.App {
			answered := p.step < e.step // or replaced, which is asked below
			if !answered && (e.phase != running || e.step != p.step || e.attempt != p.attempt) {
				return ID{}, nil, &Error{CodeSuperseded, "the attempt that makes this call has been replaced", p.parent}
			}
			if c.isPurged(e) {
				return ID{}, nil, &Error{CodePurged, "the app was purged while this method ran", p.parent}
			}
			if !answered {
				return p.flow, []ID{p.parent}, nil
			}
		}
		if c.isZombie(p.parent, p.attempt) {
			// It would wait for itself: its actor takes nothing before it has ended.
			return ID{}, nil, &Error{CodePurged, "the app was purged while this method ran", p.parent}
		}
		if c.replaced(&p) {
			return ID{}, nil, &Error{CodeSuperseded, "the attempt that makes this call has been replaced", p.parent}
		}
		// kar-sdk restores sessions in start order, so a method may go on with
		// the session of a request that has ended, or of a step that was answered:
		// the call is a child of all open requests of its flow there.
		for _, e := range c.flows[p.flow] {
			if len(parents) > maxCallers {
				break // spareLinks refuses them
			}
			if e.phase == running && !c.isPurged(e) && e.req.Target.App == r.Target.App && (r.Boot == "" || e.host == r.Boot) {
				parents = append(parents, e.req.ID)
			}
		}
		if len(parents) > 0 {
			sortIDs(parents)
			return p.flow, parents, nil
		}
	}
	// Made up by an app: it enters a flow that is open on the target, no other.
	if !p.flow.IsZero() && r.Target.IsActor() && c.purgingOf(r.Target.App) == nil {
		if a := c.actors[r.Target.Actor()]; a != nil && a.locked() && a.flow == p.flow {
			return p.flow, nil, nil
		}
	}
	return ID{}, nil, nil
}

// Vouch asks the owner of a parent about a request that it sends to another
// partition. The reply's Value is *Vouched (nil: no known parent), and the child
// is remembered until ChildClosed: a call until it has its outcome, a tell or
// promise until it is accepted. One request may be asked for several times at
// once, when a stream broke: each asker has its own share in the child.
type Vouch struct {
	Request Request // ID, Session, Boot, Target
	// Parents are those for which the asker has its share already, since Term.
	Parents []ID
	Term    uint64
	Waiter  any
}

func (in *Vouch) decide(c *Core) {
	flow, parents, err := c.session(&in.Request)
	if err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	if len(parents) == 0 {
		c.replyValue(in.Waiter, (*Vouched)(nil))
		return
	}
	if err := c.spareLinks(parents); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	for _, p := range parents {
		shares, known := c.entries[p].children[in.Request.ID]
		if known && shares == 0 {
			continue // somebody who asks for it again has no share in it
		}
		c.addChild(p, in.Request.ID, c.callerStep(parents))
		if held := in.Term == c.epoch && slices.Contains(in.Parents, p); !held || !known {
			c.entries[p].children[in.Request.ID]++
		}
	}
	c.replyValue(in.Waiter, &Vouched{Flow: flow, Parents: parents, Partition: c.cfg.Partition, Epoch: c.epoch, Generation: c.generation(in.Request.Target.App), Step: c.callerStep(parents)})
}

// lostCaller refuses what a boot sends that was counted lost.
func (c *Core) lostCaller(boot string) *Error {
	if boot != "" && c.isLost(boot) {
		return Errorf(CodeHostLost, "the host that sent this request was counted as lost")
	}
	return nil
}

// ChildClosed says that a child in another partition has its outcome, or that one
// who asked for it in term Asker was never heard there. When a purge may have been the
// reason, Generation is that of App there: its parents must not be retried beside what
// still runs of it.
type ChildClosed struct {
	Parents    []ID
	Child      ID
	App        string
	Generation uint64
	Asker      uint64 // 0: the child has ended
}

func (in *ChildClosed) decide(c *Core) {
	c.changeApp(&appChanged{app: in.App, generation: in.Generation})
	switch in.Asker {
	case 0:
		c.childEnded(in.Parents, in.Child)
	case c.epoch:
		c.childEnded(c.lastAskers(in.Parents, in.Child), in.Child)
	}
}

// lastAskers takes the share of one asker from a child, and tells the parents for whose
// calls nobody asks any more.
func (c *Core) lastAskers(parents []ID, child ID) (last []ID) {
	for _, p := range parents {
		e := c.entries[p]
		if e == nil || e.children[child] == 0 {
			continue // it has ended, or is known to have been accepted
		}
		if e.children[child]--; e.children[child] == 0 {
			last = append(last, p)
		}
	}
	return last
}

// maxLinks bounds the unfinished calls of an app, each counted for all of its
// callers, beyond which a call must have one caller: else n such calls in one flow
// would have n²/2.
const maxLinks = 1 << 18

// maxCallers bounds the callers that one call counts for: they stand in one record,
// and are told to another partition at once.
const maxCallers = 4096

// spareLinks refuses a call with many callers when there are too many already.
func (c *Core) spareLinks(parents []ID) *Error {
	if len(parents) > maxCallers || len(parents) > 1 && c.app(c.entries[parents[0]].req.Target.App).links+len(parents) > maxLinks {
		return Errorf(CodeMailboxFull, "which of %d requests makes this call its session does not tell, and too many calls count for all of theirs", len(parents))
	}
	return nil
}

// callerStep is the step of the only caller plus one; 0 when there are several, and
// what is not known of calls that earlier versions have recorded.
func (c *Core) callerStep(parents []ID) uint32 {
	if len(parents) != 1 || c.entries[parents[0]] == nil {
		return 0
	}
	return c.entries[parents[0]].step + 1
}

// addChild notes a call for which a retry of its caller waits. What an earlier step
// of the caller has called, and not waited for, concerns no attempt of this one.
func (c *Core) addChild(parent, child ID, step uint32) {
	if e := c.entries[parent]; e != nil && (step == 0 || step == e.step+1) {
		if e.children == nil {
			e.children = map[ID]uint32{}
		}
		if _, ok := e.children[child]; !ok {
			e.children[child] = 0
			c.app(e.req.Target.App).links++
		}
	}
}

// linkChildren finds the children of every request anew: in a trimmed log a
// child may stand in front of the record that keeps its parent.
func (c *Core) linkChildren() {
	for id, e := range c.entries {
		for _, p := range e.parents {
			c.addChild(p, id, e.parentStep)
		}
	}
	for id, h := range c.homes {
		for _, p := range h.parents {
			c.addChild(p, id, h.parentStep)
		}
	}
	for id, x := range c.borrowings {
		for _, p := range x.parents {
			c.addChild(p, id, x.step)
		}
	}
}

func (c *Core) childEnded(parents []ID, child ID) {
	for _, p := range parents {
		if e := c.entries[p]; e != nil {
			if _, ok := e.children[child]; ok {
				delete(e.children, child)
				c.app(e.req.Target.App).links--
			}
			if e.phase == stopped {
				c.touchTarget(e)
			}
		}
	}
}

func (c *Core) openEntries() []*entry {
	es := make([]*entry, 0, len(c.entries))
	for _, e := range c.entries {
		es = append(es, e)
	}
	sortEntries(es)
	return es
}
