package runtime

// A past is what is known of a step that has ended: attempts up to a number were
// replaced, and nothing of theirs may come through any more. An attempt that has
// answered is not among them: its app may still finish what it does beside.
type past struct {
	node
	pastKey
	attempt uint32
	at      int64 // memory: monotonic ms
}

type pastKey struct {
	id   ID
	step uint32
}

// replacedOf is how many attempts of its step were replaced.
func (e *entry) replacedOf() uint32 {
	if e.attempt == 0 {
		return 0
	}
	return e.attempt - 1
}

func (c *Core) setPast(seq uint64, key pastKey, attempt uint32) {
	if attempt == 0 {
		return
	}
	p := c.pasts[key]
	switch {
	case p == nil:
		p = &past{pastKey: key, attempt: attempt}
		c.pasts[key] = p
		c.agePast(p)
	case p.attempt < attempt:
		p.attempt = attempt
		c.agePast(p)
	} // else it is kept, which makes it no younger
	c.keep.place(&p.node, seq, p)
}

// replaced reports whether a session is one of an attempt that was replaced.
func (c *Core) replaced(s *sessionParts) bool {
	p := c.pasts[pastKey{s.parent, s.step}]
	return p != nil && s.attempt <= p.attempt
}

func (c *Core) agePast(p *past) {
	p.at = c.now.Mono
	if c.owned {
		c.oldPasts.add(p, p.at)
	}
}

func (c *Core) forgetPasts() {
	c.oldPasts.forget(c.now.Mono-c.cfg.IDWindow, func(p *past, at int64) {
		if p.at == at && c.pasts[p.pastKey] == p {
			c.keep.remove(&p.node)
			delete(c.pasts, p.pastKey)
		}
	})
}

// keptPast is a past in full.
type keptPast struct {
	id      ID
	step    uint32
	attempt uint32
}

func (k *keptPast) fields(c *codec) {
	c.id(1, &k.id)
	c.u32(2, &k.step)
	c.u32(3, &k.attempt)
}

func (c *Core) keepPast(p *past) {
	if c.LogLevel() < 2 { // older gateways have no word for it
		c.keep.remove(&p.node)
		delete(c.pasts, p.pastKey)
		return
	}
	c.emit(&keptPast{p.id, p.step, p.attempt})
}
