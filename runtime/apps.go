package runtime

import (
	"bytes"
	"slices"
	"sort"
	"time"
)

// Facts about an app live in the app's partition and go to all others through
// the outbox.

// Purge forgets an app by raising its generation. It is sent to the app's
// partition; the reply comes when every partition has recorded it,
// and nothing of it is left here. Asked again under its ID, also of another owner, it
// waits for what the first asking has begun.
type Purge struct {
	App    string
	ID     ID // zero for one that is not asked again
	Waiter any
}

type purge struct {
	app    string
	waiter any
	done   bool
	need   int // partitions that have not confirmed it
}

func (in *Purge) decide(c *Core) {
	if c.ended.has(in.ID) {
		c.awaitPurge(in)
		return
	}
	if c.repeated(in.ID, in.App, in.Waiter, replaced) { // it is too old to be known
		return
	}
	b := appChanged{app: in.App, generation: c.generation(in.App) + 1, at: c.now.Wall}
	var out []OutMessage
	for p := range c.cfg.Partitions {
		if uint16(p) != c.cfg.Partition {
			out = append(out, OutMessage{To: uint16(p), Payload: encode(nil, &parcel{kind: msgApp, app: b})})
		}
	}
	b.done = c.doneAs(in.ID, done{yes: true})
	x := &purge{app: in.App, waiter: in.Waiter, need: len(out)}
	c.raise(&b, out...)
	for _, o := range out {
		box := c.outboxTo(o.To)
		box.purges = append(box.purges, purgeSent{x, box.next - 1})
	}
	c.beginWait(x)
}

func (c *Core) beginWait(x *purge) {
	c.purges = append(c.purges, x)
	if x.need == 0 {
		c.purged = append(c.purged, x)
	}
}

// awaitPurge waits for a purge that was asked for before: for all messages about the
// app that some partition has not confirmed, whoever sent them.
func (c *Core) awaitPurge(in *Purge) {
	x := &purge{app: in.App, waiter: in.Waiter}
	for p := range c.cfg.Partitions {
		o := c.out[uint16(p)]
		if o == nil {
			continue
		}
		if n := o.lastAbout(in.App); n > 0 {
			at := sort.Search(len(o.purges), func(i int) bool { return o.purges[i].n > n })
			o.purges = slices.Insert(o.purges, at, purgeSent{x, n})
			x.need++
		}
	}
	c.beginWait(x)
}

// lastAbout is the last message that tells of a purge of the app and is not confirmed,
// 0 for none.
func (o *outbox) lastAbout(app string) (n uint64) {
	news := []byte{1 << 1, msgApp} // what each of them begins with: the kind is the first field
	for _, e := range o.pending {  // in any order
		var m appNews
		if e.n > n && bytes.HasPrefix(e.payload, news) && decode(e.payload, &m) == nil && m.app.app == app {
			n = e.n
		}
	}
	return n
}

// appNews is a parcel as far as it is about an app.
type appNews struct {
	kind uint64
	app  appChanged
}

func (m *appNews) fields(c *codec) {
	c.u64(1, &m.kind)
	has := m.kind == msgApp
	c.msg(8, &has, &m.app)
}

func (c *Core) changeApp(b *appChanged) {
	if b.generation > c.generation(b.app) {
		c.raise(b)
	}
}

// raise begins a new generation of an app.
func (c *Core) raise(b *appChanged, out ...OutMessage) {
	b.from = c.generation(b.app) + 1
	if c.LogLevel() >= 2 {
		c.emit(b, out...)
	} else {
		c.raiseAtOnce(b, out)
	}
	// An invocation that has not left runs nothing, and must not leave now.
	c.effects = slices.DeleteFunc(c.effects, func(e Effect) bool {
		m, ok := e.Msg.(*Invoke)
		return ok && m.Target.App == b.app
	})
	c.beginPurge(c.app(b.app))
	c.pieces = c.keepHaunted(c.purgeSome(c.pieces))
	for _, key := range sortedKeys(c.blocked) {
		if c.liveGroup(key) == nil {
			c.unblock(key)
		}
	}
	if a := c.app(b.app); a.holds+a.members > 0 { // hosts let go of what was active, in pieces as well
		c.beginSweep()
	}
	c.effect(Effect{Kind: GroupsChanged})
	c.effect(Effect{Kind: GenerationChanged})
}

// unkeep notes an actor that keepHaunted is to keep.
func (c *Core) unkeep(a *actorEntry) {
	if c.owned && !a.unkept {
		a.unkept = true
		c.unkept = append(c.unkept, a)
	}
}

// keepHaunted keeps actors whose zombies stand in the log only as what a purge has
// ended: they must outlive those records. Until then nothing is cut off. It returns
// what is left of n. While a purge goes on an actor may get more of them.
func (c *Core) keepHaunted(n int) (left int) {
	for ; len(c.purging) == 0 && len(c.unkept) > 0 && n > 0; n-- {
		a := c.unkept[0]
		c.unkept[0] = nil
		c.unkept = c.unkept[1:]
		a.unkept = false
		if c.actors[a.actor] != a {
			continue
		}
		if c.dead(&a.node, a.actor.App) {
			c.keepOne(&a.node)
		}
		c.touch(a)
	}
	return n
}

// A purgeSent is a purge that another partition confirms with a message.
type purgeSent struct {
	p *purge
	n uint64
}

// purgesHeard follows when messages to a partition were confirmed.
func (c *Core) purgesHeard(o *outbox) {
	for len(o.purges) > 0 && (len(o.pending) == 0 || o.first > o.purges[0].n) {
		p := o.purges[0].p
		o.purges[0] = purgeSent{}
		o.purges = o.purges[1:]
		if p.need--; p.need == 0 {
			c.purged = append(c.purged, p)
		}
	}
}

// checkPurges answers those that all partitions have confirmed, once nothing is left here.
func (c *Core) checkPurges() {
	if len(c.purged) == 0 {
		return
	}
	c.purged = slices.DeleteFunc(c.purged, func(p *purge) bool {
		if c.purgingOf(p.app) != nil {
			return false
		}
		p.done = true
		c.replyValue(p.waiter, true)
		return true
	})
	for len(c.purges) > 0 && c.purges[0].done {
		c.purges[0] = nil
		c.purges = c.purges[1:]
	}
}

func (c *Core) applyApp(seq uint64, b *appChanged) {
	a := c.app(b.app)
	if b.listed {
		for len(a.services) > 0 {
			c.applyService(seq, b.app, a.services[0].serviceFact, true)
			a = c.app(b.app)
		}
		for _, f := range b.services {
			c.applyService(seq, b.app, f, false)
		}
	}
	if b.generation <= a.generation {
		c.dropApp(b.app)
		return
	}
	old := c.generationOf(b.app, b.from)
	a.open++ // stays, whatever is dropped now
	if c.LogLevel() < 2 {
		c.endAll(seq, a)
		c.dropSubscriptionsOf(b.app)
	}
	a.open--
	a.generation, a.purged, a.purgedAt, a.noted, a.used = b.generation, seq, b.at, c.now.Mono, false
	if c.LogLevel() >= 2 {
		c.keep.place(&a.node, seq, a)
	} else {
		a.purgedAt, a.used = 0, true // a header of level 1 says neither
	}
	prefix := appKey(b.app, old)
	c.change(seq, string(prefix), Mutation{Key: prefix, Prefix: true})
}

// haunt and exorcise are the one account of zombies.
func (c *Core) haunt(a *actorEntry, z zombie) {
	if len(a.zombies) == 0 {
		c.haunts++
		a.hauntAt, a.hauntTurn = len(c.hauntedOn[z.host]), c.haunts
		c.hauntedOn[z.host] = append(c.hauntedOn[z.host], a)
	}
	a.zombies = append(a.zombies, z)
	c.haunted[a.actor], c.ghosts[z.id] = a, a
}

func (c *Core) exorcise(a *actorEntry, ended func(zombie) bool) {
	if len(a.zombies) == 0 {
		return
	}
	host := a.zombies[0].host
	a.zombies = slices.DeleteFunc(a.zombies, func(z zombie) bool {
		if !ended(z) {
			return false
		}
		delete(c.ghosts, z.id)
		return true
	})
	if len(a.zombies) == 0 {
		a.zombies = nil
		delete(c.haunted, a.actor)
		as := c.hauntedOn[host]
		last := as[len(as)-1]
		as[a.hauntAt], last.hauntAt = last, a.hauntAt
		as[len(as)-1] = nil
		if as = as[:len(as)-1]; len(as) == 0 {
			delete(c.hauntedOn, host)
		} else {
			c.hauntedOn[host] = as
		}
	}
}

// zombieEnded: an attempt of an earlier generation has ended; when none is
// left the actor can be deactivated and used anew.
func (c *Core) zombieEnded(boot string, at Attempt) {
	if x := c.ghosts[at.ID]; x != nil {
		n := len(x.zombies)
		c.exorcise(x, func(z zombie) bool { return z.id == at.ID && z.host == boot && z.attempt == at.Number })
		if len(x.zombies) < n {
			c.touch(x)
		}
	}
}

func (c *Core) isZombie(id ID, attempt uint32) bool {
	x := c.ghosts[id]
	return x != nil && slices.ContainsFunc(x.zombies, func(z zombie) bool { return z.id == id && z.attempt == attempt })
}

// joinZombies: what the boot does not run any more has ended while nobody listened.
func (c *Core) joinZombies(a *actorEntry, boot string, runs map[ID]Attempt) {
	c.exorcise(a, func(z zombie) bool {
		r, ok := runs[z.id]
		return z.host == boot && !(ok && r.Number == z.attempt)
	})
}

// isHaunted tells an actor on which nothing may begin. What ran on a boot that was
// lost has ended, whether it was gone through or not.
func (c *Core) isHaunted(a *actorEntry) bool {
	if len(a.zombies) > 0 && c.isLost(a.zombies[0].host) {
		c.exorcise(a, func(zombie) bool { return true })
	}
	return len(a.zombies) > 0
}

// SetService registers, replaces or (URL "") removes a url component; sent to
// the app's partition. The reply's Value is whether there was one before.
type SetService struct {
	App, Name, URL string
	Timeout        int64 // ms
	Proxied        bool  // there is a proxy before it, see [Proxied]
	ID             ID    // under which it may be asked again
	Waiter         any
}

// LeastServiceTimeout of an attempt: what is shorter is no time for an answer.
const LeastServiceTimeout = 100 * time.Millisecond

// What a url component may say, and how many an app may have.
const (
	maxServiceURL  = 2048
	maxServiceName = 256
	maxServices    = 1000
)

func (in *SetService) decide(c *Core) {
	if in.URL != "" && in.Timeout < LeastServiceTimeout.Milliseconds() {
		c.refuse(in.Waiter, Errorf(CodeBadRequest, "the time limit of a service is at least %s", LeastServiceTimeout))
		return
	}
	if c.repeated(in.ID, in.App, in.Waiter, replaced) {
		return
	}
	var list []serviceFact
	had := false
	if a := c.apps[in.App]; a != nil {
		for _, s := range a.services {
			had = had || s.name == in.Name
			if s.name != in.Name {
				list = append(list, s.serviceFact)
			}
		}
	}
	f, answer := serviceFact{in.Name, in.URL, in.Timeout, in.Proxied}, c.doneAs(in.ID, done{yes: had})
	switch {
	case in.URL != "" && (len(in.URL) > maxServiceURL || len(in.Name) > maxServiceName):
		c.refuse(in.Waiter, Errorf(CodeTooLarge, "the name has %d bytes and the url %d, the limits are %d and %d", len(in.Name), len(in.URL), maxServiceName, maxServiceURL))
		return
	case in.URL != "" && len(list) >= maxServices:
		c.refuse(in.Waiter, Errorf(CodeTooLarge, "the app has %d url components already", len(list)))
		return
	case in.URL == "" && !had && in.ID.IsZero():
	case c.LogLevel() >= 2:
		c.emit(&serviceSet{app: in.App, service: f, gone: in.URL == "", done: answer})
		c.effect(Effect{Kind: ServicesChanged})
	default:
		if in.URL != "" {
			list = append(list, f)
			sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
		}
		c.emit(&appChanged{app: in.App, generation: c.generation(in.App), listed: true, services: list, done: answer})
		c.effect(Effect{Kind: ServicesChanged})
	}
	c.replyValue(in.Waiter, had)
}

// A ServiceFact is a url component of an app.
type ServiceFact struct {
	App, Name, URL string
	Timeout        int64 // ms
	Proxied        bool
}

func (c *Core) serviceFacts() []ServiceFact {
	var list []ServiceFact
	for _, name := range sortedKeys(c.apps) {
		for _, s := range c.apps[name].services {
			list = append(list, ServiceFact{name, s.name, s.url, s.timeout, s.proxied || Proxied(s.url)})
		}
	}
	return list
}
