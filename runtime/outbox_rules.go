package runtime

// Work that one partition hands to another travels as numbered messages in the
// sender's log; the receiver records each number once, in order, and answers
// with the highest recorded. The memory of duplicates is one number per pair
// of partitions, whatever the time.

const (
	msgStep    = 1 // run the next step of a chain
	msgOutcome = 2 // a chain ended; this is for its home
	msgTell    = 3 // a tell made here for an actor there (events)
	msgApp     = 4 // a fact about an app
	msgJoin    = 5 // a subscription joins its group
	msgLeave   = 6 // a subscription leaves its group
	msgCancel  = 7 // a chain is to end, wherever it is
)

// A parcel is the payload of an outbox message.
type parcel struct {
	kind    uint64
	id      ID
	home    uint16
	step    uint32
	flow    ID
	req     Request
	outcome Outcome
	app     appChanged
	sub     Subscription
	group   string // with msgTell: of the event
	life    uint64
	of      string // the app that an outcome is of
	gen     uint64 // generation of the app, with all but msgApp, which says it itself
}

// about is the app whose generation the message carries, "" when it carries none.
func (m *parcel) about() string {
	switch m.kind {
	case msgStep, msgTell, msgCancel:
		return m.req.Target.App
	case msgJoin, msgLeave:
		return m.sub.Actor.App
	case msgOutcome:
		return m.of
	}
	return ""
}

func (m *parcel) fields(c *codec) {
	c.u64(1, &m.kind)
	c.id(2, &m.id)
	c.u16(3, &m.home)
	c.u32(4, &m.step)
	c.id(5, &m.flow)
	has := m.kind == msgStep || m.kind == msgTell || m.kind == msgCancel
	c.msg(6, &has, &m.req)
	has = m.kind == msgOutcome
	c.msg(7, &has, &m.outcome)
	has = m.kind == msgApp
	c.msg(8, &has, &m.app)
	has = m.kind == msgJoin || m.kind == msgLeave
	c.msg(9, &has, &m.sub)
	c.str(10, &m.group)
	c.u64(11, &m.gen)
	c.u64(12, &m.life)
	c.str(13, &m.of)
}

func (c *Core) outboxTo(p uint16) *outbox {
	o := c.out[p]
	if o == nil {
		o = &outbox{next: 1, pending: map[uint64]*outEntry{}}
		c.out[p] = o
	}
	return o
}

func (c *Core) applyOut(seq uint64, m *OutMessage) {
	o := c.outboxTo(m.To)
	if m.N >= o.next {
		o.next = m.N + 1
	}
	e := &outEntry{to: m.To, n: m.N, payload: m.Payload}
	c.keep.place(&e.node, seq, e)
	o.add(e)
	if c.owned && (len(o.pending) == 1 || len(o.pending) <= outWindow && o.size <= outBytes) {
		c.send(e)
	}
}

func (o *outbox) add(e *outEntry) {
	if len(o.pending) == 0 || e.n < o.first {
		o.first = e.n
	}
	o.pending[e.n] = e
	o.size += len(e.payload)
}

const (
	// outWindow is how many messages may be on their way to one partition. The
	// receiver takes the next one only, so more would be sent in vain when one is lost.
	outWindow = 256
	// outBytes is how many bytes, when it is more than one message.
	outBytes = 4 << 20
)

func (c *Core) send(e *outEntry) {
	e.sent = c.now.Mono
	c.effect(Effect{Kind: ToPartition, Partition: e.to, N: e.n, Payload: e.payload})
}

// Acked: the other partition has recorded this one's messages up to N.
type Acked struct {
	Partition uint16
	N         uint64
}

func (in *Acked) decide(c *Core) {
	o := c.outboxTo(in.Partition)
	for ; len(o.pending) > 0 && o.first <= in.N; o.first++ {
		if e := o.pending[o.first]; e != nil {
			c.keep.remove(&e.node)
			delete(o.pending, o.first)
			o.size -= len(e.payload)
		}
	}
	c.purgesHeard(o)
	again := o.again > 0 && o.again <= in.N // it was lost, or those that were sent behind it are on their way still
	if again {
		o.again = 0
	}
	for _, e := range o.window() {
		if again && e.sent <= o.againAt {
			e.sent = 0
		}
		if e.sent == 0 {
			c.send(e)
		}
	}
}

// window are the messages that may be on their way. In a trimmed log some may
// be missing between others: those were confirmed.
func (o *outbox) window() []*outEntry {
	size := min(len(o.pending), outWindow)
	es := make([]*outEntry, 0, size)
	bytes := 0
	for n := o.first; len(es) < size; n++ {
		if e := o.pending[n]; e != nil {
			if bytes += len(e.payload); bytes > outBytes && len(es) > 0 {
				break
			}
			es = append(es, e)
		}
	}
	return es
}

// resend repeats the oldest message that has not been confirmed for a second. The
// others follow when that one is confirmed: a receiver that is stuck is not sent
// all of them again and again.
func (c *Core) resend() {
	for p := range c.cfg.Partitions {
		if o := c.out[uint16(p)]; o != nil {
			for i, e := range o.window() {
				late := i == 0 && c.now.Mono-e.sent >= 1000
				if late && e.sent != 0 {
					o.again, o.againAt = e.n, c.now.Mono
				}
				if late || e.sent == 0 {
					c.send(e)
				}
			}
		}
	}
}

// Deliver is an outbox message from another partition. Limits never refuse one.
type Deliver struct {
	From    uint16
	N       uint64
	Payload []byte
}

func (in *Deliver) decide(c *Core) {
	if in.N == c.in[in.From]+1 {
		var m parcel
		if decode(in.Payload, &m) != nil {
			m = parcel{}
		}
		c.catchUpWithPurge(&m)
		c.via = via{in.From, in.N}
		c.deliver(&m)
		if c.via.n != 0 { // nothing had to be recorded but the number
			c.emit(&received{})
		}
	}
	c.effect(Effect{Kind: AckPartition, Partition: in.From, N: c.in[in.From]})
}

// catchUpWithPurge: messages of two partitions overtake each other, so work or
// a subscription of a new generation may be here before the news of the purge.
// It must not be taken for one of the old. A record of its own: the message's number is
// recorded with the work.
func (c *Core) catchUpWithPurge(m *parcel) {
	if app := m.about(); app != "" {
		c.changeApp(&appChanged{app: app, generation: m.gen})
	}
}

func (c *Core) deliver(m *parcel) {
	if app := m.about(); app != "" && m.gen < c.generation(app) {
		return // purged on its way
	}
	switch m.kind {
	case msgStep:
		e := c.accept(&accepted{req: m.req, flow: m.flow, home: m.home, step: m.step, at: c.now.Wall}, nil)
		c.cancelArrived(e)
	case msgTell:
		if c.knows(m.req.ID) {
			return // an event that is in its topic twice
		}
		b := accepted{req: m.req, flow: m.flow, home: c.cfg.Partition, at: c.now.Wall}.of(groupLife{m.group, m.life, c.via.from}, c.cfg.Partition)
		c.accept(&b, nil)
	case msgOutcome:
		if h := c.homes[m.id]; h != nil && !c.isPurgedHome(h) {
			c.emitOutcome(m.id, &h.req, &m.outcome, &completed{})
		}
	case msgCancel:
		c.cancelStep(m.id)
	case msgApp:
		c.changeApp(&m.app)
	case msgJoin:
		c.emit(&subscribed{s: m.sub})
		c.effect(Effect{Kind: GroupsChanged})
	case msgLeave:
		c.emit(&unsubscribed{actor: m.sub.Actor, ids: []string{m.sub.ID}})
		c.effect(Effect{Kind: GroupsChanged})
	}
}
