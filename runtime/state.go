package runtime

import "slices"

// StateInput is one operation on an actor's state, with what the store said
// about the keys that it touches (see StateKeys). The reply's Value is a StateResult, or
// a *StateScan for a read of much.
type StateInput struct {
	Op     StateOp
	View   *View
	Waiter any
}

// StateKeys says what to read from the store before a StateInput: single keys,
// or everything under prefix when it is not nil.
func StateKeys(op *StateOp, generation uint64) (keys [][]byte, prefix []byte) {
	p := ActorPrefix(op.Actor, generation)
	switch op.Verb {
	case StateGet, StateSet, StateDelete:
		return [][]byte{FieldKey(p, &Field{Key: op.Key, Sub: op.Sub, InMap: op.InMap})}, nil
	case StateMap, StateMapClear:
		return nil, MapPrefix(p, op.Key)
	case StateUpdate:
		keys = make([][]byte, 0, op.changes())
		for i := range op.Removes {
			keys = append(keys, FieldKey(p, &op.Removes[i]))
		}
		for i := range op.Sets {
			keys = append(keys, FieldKey(p, &op.Sets[i]))
		}
		return keys, nil
	}
	return nil, p
}

// refuseLost refuses a change by a boot that was counted lost, or by an attempt or an
// instance of an earlier generation of the app that is still on that boot.
func (c *Core) refuseLost(boot string, a Actor, waiter any) bool {
	if boot == "" {
		return false
	}
	if err := c.lostCaller(boot); err != nil {
		c.refuse(waiter, err)
		return true
	}
	x := c.actors[a]
	if x == nil {
		return false
	}
	old := slices.ContainsFunc(x.zombies, func(z zombie) bool { return z.host == boot }) ||
		x.host == boot && c.isStale(x) // it may go on beside an answer
	if old {
		c.refuse(waiter, Errorf(CodePurged, "the app was purged while this method ran"))
	}
	return old
}

func (in *StateInput) decide(c *Core) {
	op, v := &in.Op, in.View
	gen := c.generation(op.Actor.App)
	if v != nil && v.Generation != gen {
		c.reread(in.Waiter)
		return
	}
	if !op.Verb.Reads() && c.refuseLost(op.Boot, op.Actor, in.Waiter) {
		return
	}
	if !op.Verb.Reads() && c.repeated(op.ID, op.Actor.App, in.Waiter, func(d *done) any {
		return StateResult{Created: d.yes, N: d.n, Added: d.added, Removed: d.removed}
	}) {
		return
	}
	if err := op.Check(); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	prefix := ActorPrefix(op.Actor, gen)
	group := string(prefix)
	one := &Field{Key: op.Key, Sub: op.Sub, InMap: op.InMap, Value: op.Value}
	var r StateResult
	var set []Field
	var keys []string // where set lies, when that is known
	var maps []string
	clear := false
	switch op.Verb {
	case StateGet, StateSet, StateDelete:
		old, again := c.lookup(v, group, string(FieldKey(prefix, one)))
		if again {
			c.reread(in.Waiter)
			return
		}
		r.Found, r.Value = old != nil, old
		switch {
		case op.Verb == StateSet:
			r.Created = old == nil
			set = []Field{{Key: op.Key, Sub: op.Sub, InMap: op.InMap, Value: notNil(op.Value)}}
		case op.Verb == StateDelete && old != nil:
			r.N = 1
			set = []Field{{Key: op.Key, Sub: op.Sub, InMap: op.InMap}}
		}
	case StateUpdate:
		var again bool
		if set, keys, again = c.update(op, v, prefix, group, &r); again {
			c.reread(in.Waiter)
			return
		}
	case StateMapClear, StateClear:
		p := group
		if op.Verb == StateMapClear {
			p = string(MapPrefix(prefix, op.Key))
		}
		n, again := c.count(v, group, p)
		if again {
			c.reread(in.Waiter)
			return
		}
		switch {
		case n == 0:
		case op.Verb == StateClear:
			r.N, clear = 1, true
		case c.LogLevel() >= 2:
			r.N, maps = n, []string{op.Key}
		default:
			r.N = n
			found, _ := c.scan(v, group, p)
			for _, f := range found.Fields() {
				set = append(set, Field{Key: f.Key, Sub: f.Sub, InMap: true})
			}
		}
	default:
		p := group
		if op.Verb == StateMap {
			p = string(MapPrefix(prefix, op.Key))
		}
		found, again := c.scan(v, group, p)
		if again {
			c.reread(in.Waiter)
			return
		}
		if !found.small() {
			c.replyValue(in.Waiter, found)
			return
		}
		r.Fields = found.Fields()
	}
	size := op.Actor.bytes()
	for i := range set {
		size += set[i].bytes()
	}
	if c.refuseLarge(in.Waiter, "the change of state", size) {
		return
	}
	if len(set) > 0 || len(maps) > 0 || clear || !op.Verb.Reads() && !op.ID.IsZero() {
		if err := c.roomFor(op.ID, size+len(set)*changeBytes); err != nil {
			c.refuse(in.Waiter, err)
			return
		}
		answer := done{yes: r.Created, n: r.N, added: r.Added, removed: r.Removed}
		c.emit(&stateChanged{actor: op.Actor, clear: clear, set: set, keys: keys, gen: gen + 1, maps: maps, done: c.doneAs(op.ID, answer)})
	}
	c.replyValue(in.Waiter, r)
}

// update makes removals, then changes, as one record. Store keys that the view brings along
// are not made here again.
func (c *Core) update(op *StateOp, v *View, prefix []byte, group string, r *StateResult) (set []Field, keys []string, again bool) {
	made := v != nil && len(v.Keys) == op.changes()
	key := func(i int, f *Field) string {
		if made {
			return v.Keys[i]
		}
		return string(FieldKey(prefix, f))
	}
	set, keys = make([]Field, 0, op.changes()), make([]string, 0, op.changes())
	removed := make(map[string]bool, len(op.Removes))
	for i := range op.Removes {
		f, k := &op.Removes[i], key(i, &op.Removes[i])
		old, again := c.lookup(v, group, k)
		if again {
			return nil, nil, true
		}
		if old != nil && !removed[k] {
			removed[k] = true
			r.Removed++
			set, keys = append(set, Field{Key: f.Key, Sub: f.Sub, InMap: f.InMap}), append(keys, k)
		}
	}
	for i := range op.Sets {
		f, k := &op.Sets[i], key(len(op.Removes)+i, &op.Sets[i])
		old, again := c.lookup(v, group, k)
		if again {
			return nil, nil, true
		}
		if old == nil || removed[k] {
			r.Added++
		}
		set, keys = append(set, Field{Key: f.Key, Sub: f.Sub, InMap: f.InMap, Value: notNil(f.Value)}), append(keys, k)
	}
	return set, keys, false
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (c *Core) applyState(seq uint64, b *stateChanged) {
	prefix := ActorPrefix(b.actor, c.generationOf(b.actor.App, b.gen))
	group := string(prefix)
	c.use(b.actor.App)
	if b.clear {
		c.change(seq, group, Mutation{Key: prefix, Prefix: true})
	}
	for _, key := range b.maps {
		c.change(seq, group, Mutation{Key: MapPrefix(prefix, key), Prefix: true})
	}
	c.expect(seq, group, len(b.set))
	for i := range b.set {
		if i < len(b.keys) {
			c.changeAt(seq, group, b.keys[i], Mutation{Key: []byte(b.keys[i]), Value: b.set[i].Value})
		} else {
			c.change(seq, group, Mutation{Key: FieldKey(prefix, &b.set[i]), Value: b.set[i].Value})
		}
	}
}

func (c *Core) clearState(seq uint64, a Actor, gen uint64) {
	prefix := ActorPrefix(a, gen)
	c.change(seq, string(prefix), Mutation{Key: prefix, Prefix: true})
}
