package runtime

// Before the first retry of work that an owner of an earlier term has started, the
// new owner asks all partitions to accept no more calls of that term, and which are
// open (design: Callers and retries). Question and answer come in parts, each bounded:
// a part is asked for when the one before has been heard. What is open there only
// gets less meanwhile, for the first part closes the door.

import "strconv"

const (
	// fenceChildren is about how many pairs of parent and child a part has, and
	// after how many children it ends.
	fenceChildren = 4096
	// fenceApps is how many apps one part asks about.
	fenceApps = 512
	// allChildren is behind every seat.
	allChildren = 1<<64 - 1
)

// FenceAsk: the new owner of From wants its children below Epoch closed to new
// arrivals here, and the names of those that are open.
type FenceAsk struct {
	From  uint16
	Epoch uint64
	// Apps are some of those of the requests that wait for the answer.
	Apps []string
	// Part counts from 1; 0 from owners of level 1, who want all in one.
	Part uint32
	// Term and After are those of the last answer: where the next part begins.
	Term, After uint64
}

// A PendingChild is an open call whose parent lives in the partition that asked.
type PendingChild struct {
	Parent, Child ID
	Step          uint32 // see [Vouched]
}

// An AppGeneration is what one partition tells another about an app.
type AppGeneration struct {
	App        string
	Generation uint64
}

func (in *FenceAsk) decide(c *Core) {
	if int(in.From) >= c.cfg.Partitions || in.From == c.cfg.Partition {
		return
	}
	if in.Epoch > c.fences[in.From] {
		c.emit(&fenced{in.From, in.Epoch})
	}
	x := &FenceAnswered{From: c.cfg.Partition, Epoch: in.Epoch, Part: in.Part, Term: c.epoch}
	after := in.After
	if in.Term != c.epoch {
		after = 0 // another owner has begun to answer
	}
	note := func(id ID, parents []ID, step uint32) {
		for _, p := range parents {
			x.Pending = append(x.Pending, PendingChild{p, id, step})
		}
	}
	if after == 0 {
		for _, id := range sortedIDs(c.orphans) {
			note(id, c.orphans[id].parents, c.orphans[id].parentStep)
		}
	}
	if r := c.abroad[in.From]; r != nil {
		looked := 0
		for s := r.behind(after); s != nil; s = r.behind(after) {
			if in.Part > 0 && (looked >= fenceChildren || len(x.Pending) >= fenceChildren) {
				x.Next = after
				break
			}
			looked++
			after = s.n
			if e := s.e; e != nil && e.parentEpoch < in.Epoch {
				note(e.req.ID, e.parents, e.parentStep)
			} else if h := s.h; h != nil && h.parentEpoch < in.Epoch {
				note(h.req.ID, h.parents, h.parentStep)
			} else if b := s.b; b != nil && b.epoch < in.Epoch {
				note(b.id, b.parents, b.step)
			}
		}
	}
	// Children that a purge has ended are not open, but may still run.
	for _, app := range in.Apps {
		if g := c.generation(app); g != 0 {
			x.Purged = append(x.Purged, AppGeneration{app, g})
		}
	}
	c.effect(Effect{Kind: ToOwner, Partition: in.From, Value: x})
}

// callAbroad notes a call whose callers run in another partition.
func (c *Core) callAbroad(partition uint16, s *seat) *seat {
	r := c.abroad[partition]
	if r == nil {
		r = &roll{}
		c.abroad[partition] = r
	}
	c.enrolled++
	r.add(s, c.enrolled)
	return s
}

// FenceAnswered is a part of the answer to this partition's FenceAsk. Pairs of one
// child stand together, all in one part.
type FenceAnswered struct {
	From    uint16
	Epoch   uint64
	Pending []PendingChild
	Purged  []AppGeneration
	Part    uint32
	// Term is that of who answers, Next where its next part begins, 0 after the last.
	Term, Next uint64
}

// A fenceQuestion is what one partition has not answered yet.
type fenceQuestion struct {
	part        uint32
	term, after uint64
	apps        []string // still to be asked about
}

func (q *fenceQuestion) next() int {
	if q.part == 0 {
		return len(q.apps)
	}
	return min(len(q.apps), fenceApps)
}

func (in *FenceAnswered) decide(c *Core) {
	q := c.fenceWait[in.From]
	if q == nil || in.Epoch != c.epoch || in.Part != q.part {
		return
	}
	for _, x := range in.Purged {
		c.changeApp(&appChanged{app: x.App, generation: x.Generation})
	}
	for i := 0; i < len(in.Pending); {
		child := in.Pending[i].Child
		var parents []ID
		for ; i < len(in.Pending) && in.Pending[i].Child == child; i++ {
			x := in.Pending[i]
			e := c.entries[x.Parent]
			if e == nil || c.isPurged(e) || x.Step != 0 && x.Step != e.step+1 {
				continue
			}
			if shares, known := e.children[child]; known && shares == 0 {
				continue // another owner there has named it
			}
			c.addChild(e.req.ID, child, x.Step)
			e.children[child] = 0
			parents = append(parents, e.req.ID)
		}
		if len(parents) > 0 {
			c.effect(Effect{Kind: WatchChild, ID: child, Value: parents, Target: c.entries[parents[0]].req.Target})
		}
	}
	q.apps = q.apps[q.next():]
	if q.part > 0 && (in.Next != 0 || len(q.apps) > 0) {
		q.part, q.term, q.after = q.part+1, in.Term, in.Next
		if in.Next == 0 {
			q.after = allChildren
		}
		c.askFence(in.From)
		return
	}
	delete(c.fenceWait, in.From)
	if len(c.fenceWait) == 0 {
		for _, e := range c.fenceHeld {
			if e.phase == stopped {
				c.touchTarget(e)
			}
		}
		c.fenceHeld = nil
	}
}

// beginFences asks all other partitions when there is work that an owner of an
// earlier term has started.
func (c *Core) beginFences() {
	if len(c.fenceHeld) == 0 {
		return
	}
	var apps []string
	for _, name := range sortedKeys(c.apps) {
		if c.apps[name].open > 0 {
			apps = append(apps, name)
		}
	}
	for p := range c.cfg.Partitions {
		if uint16(p) != c.cfg.Partition {
			q := &fenceQuestion{apps: apps}
			if c.LogLevel() >= 2 {
				q.part = 1
			}
			c.fenceWait[uint16(p)] = q
		}
	}
	c.askFences()
}

// askFences asks, and each second again, for the parts that are next.
func (c *Core) askFences() {
	c.fenceAsked = c.now.Mono
	for p := range c.cfg.Partitions {
		c.askFence(uint16(p))
	}
}

func (c *Core) askFence(p uint16) {
	if q := c.fenceWait[p]; q != nil {
		c.effect(Effect{Kind: ToOwner, Partition: p, Value: &FenceAsk{
			From: c.cfg.Partition, Epoch: c.epoch, Apps: q.apps[:q.next()], Part: q.part, Term: q.term, After: q.after,
		}})
	}
}

// unanswered names a partition whose answer is missing.
func (c *Core) unanswered() string {
	by := ""
	for p := range c.cfg.Partitions {
		if c.fenceWait[uint16(p)] != nil {
			by = "partition " + strconv.Itoa(p)
			break
		}
	}
	switch n := len(c.fenceWait) - 1; {
	case n == 1:
		by += " and 1 other"
	case n > 1:
		by += " and " + strconv.Itoa(n) + " others"
	}
	return by
}
