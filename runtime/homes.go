package runtime

// A homeEntry is a request whose chain has gone to another partition; here,
// where it was accepted, its waiters wait.
type homeEntry struct {
	node
	req     Request // without body
	flow    ID
	parents []ID
	at      int64
	from    groupLife // of the event that began it
	waiters []any
}

func (c *Core) addHome(h *homeEntry) {
	c.homes[h.req.ID] = h
	for _, p := range h.parents {
		c.addChild(p, h.req.ID)
	}
	if h.req.Key != "" {
		c.keys[keyOf(&h.req)] = h.req.ID
	}
	c.tellBegun(h.from)
}

// dropHome forgets that a chain is away; its waiters are the caller's business.
func (c *Core) dropHome(h *homeEntry) {
	id := h.req.ID
	delete(c.homes, id)
	c.keep.remove(&h.node)
	if h.req.Key != "" {
		delete(c.keys, keyOf(&h.req))
	}
	c.childEnded(h.parents, id)
	c.tellEnded(h.from)
}
