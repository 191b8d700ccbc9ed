package runtime

import "strings"

// Outcomes of promises and keyed requests go to the store with an expiry;
// plain ones live in memory (and the log) until their caller has them.

// keyOf names an Idempotency-Key in memory as the store does.
func keyOf(r *Request) string { return string(KeyInStore(r)) }

// dropKey forgets the use of a key that has ended, unless another request has it.
func (c *Core) dropKey(r *Request) {
	if r.Key == "" {
		return
	}
	if key := keyOf(r); c.keys[key] == r.ID {
		delete(c.keys, key)
	}
}

// OutcomeInStore is where the outcome of a promise or keyed request lies.
func OutcomeInStore(id ID) []byte { return append([]byte{'o'}, id[:]...) }

// KeyInStore is where the request that used an Idempotency-Key is named.
func KeyInStore(r *Request) []byte {
	b := []byte{'i'}
	t := r.keyTarget()
	for _, s := range []string{t.App, t.Type, t.ID, t.Service, r.Key} {
		b = appendPart(b, s)
	}
	return b
}

type keptOutcome struct {
	app     string
	outcome Outcome
	gen     uint64
}

func (k *keptOutcome) fields(c *codec) {
	c.str(1, &k.app)
	has := true
	c.msg(2, &has, &k.outcome)
	c.u64(3, &k.gen)
}

// A KeyUse says which request used a key and what it was like.
type keyUse struct {
	id   ID
	body uint64
	gen  uint64
}

func (k *keyUse) fields(c *codec) {
	c.id(1, &k.id)
	c.u64(2, &k.body)
	c.u64(3, &k.gen)
}

// KeyUseID is the request id in a value found at KeyInStore.
func KeyUseID(value []byte) (ID, bool) {
	var k keyUse
	if decode(value, &k) != nil {
		return ID{}, false
	}
	return k.id, true
}

// bodyHash stands for what a keyed request asks for. It lies in logs and stores,
// so it must not change. A method or path with a NUL could be taken for another
// one and another body; those are framed.
func bodyHash(r *Request) uint64 {
	if strings.IndexByte(r.Method, 0) < 0 && strings.IndexByte(r.Path, 0) < 0 {
		return hash64(r.Method, r.Path, string(r.Body))
	}
	b := appendPart(appendPart(nil, r.Method), r.Path)
	return hash64("", "", string(b), string(r.Body))
}

func (c *Core) storeOutcome(seq uint64, b *completed) {
	gen := c.generationOf(b.app, b.gen)
	expires := (b.at + b.storeTTL) / 1000
	key := OutcomeInStore(b.id)
	c.change(seq, string(key), Mutation{Key: key, Value: encode(nil, &keptOutcome{b.app, b.outcome, gen}), Expires: expires})
	if len(b.key) > 0 {
		c.change(seq, string(b.key), Mutation{Key: b.key, Value: encode(nil, &keyUse{b.id, b.sum, gen}), Expires: expires})
	}
}

// storesOf fills in what records of before those fields leave to the record of the
// request; false when that has been cut off.
func (b *completed) storesOf(r *Request) bool {
	switch {
	case b.app != "":
	case r == nil:
		return false
	default:
		b.app = r.Target.App
		if r.Key != "" {
			b.key, b.sum = KeyInStore(r), r.bodySum()
		}
	}
	return true
}

// stores tells a request whose end means something for the store.
func (r *Request) stores() bool { return r.Key != "" || r.Kind == Promise || r.Kind == Remove }

// keyTarget is the target under which the key of the request is known.
func (r *Request) keyTarget() Target {
	if r.first != (Target{}) {
		return r.first
	}
	return r.Target
}

func (r *Request) bodySum() uint64 {
	if r.sum != 0 {
		return r.sum
	}
	return bodyHash(r)
}

// storedOutcome finds an outcome in view and overlay.
func (c *Core) storedOutcome(v *View, id ID, app string) (o *Outcome, again bool) {
	key := string(OutcomeInStore(id))
	if v == nil && c.view.groups[key] == nil {
		return nil, false
	}
	b, again := c.lookup(v, key, key)
	if again || b == nil {
		return nil, again
	}
	var k keptOutcome
	if decode(b, &k) != nil || k.app != app || k.gen != c.generation(app) {
		return nil, false
	}
	return &k.outcome, false
}

// repeatOfKey answers a request whose Idempotency-Key was used before. One that has
// ended may have lost its key to another one, with a purge: that is not its first. Flow
// and parents are its callers, see callers; unfit is why they may not wait.
func (c *Core) repeatOfKey(in *Submit, flow ID, parents []ID, unfit *Error) bool {
	r := &in.Request
	reused := &Error{CodeKeyReused, "the Idempotency-Key was used for another request", r.ID}
	c.endIfPurged(c.keys[keyOf(r)])
	ended := c.ended.has(r.ID)
	if first, waiters := c.open(c.keys[keyOf(r)]); first != nil {
		if ended && first.ID != r.ID {
			return false
		}
		if first.bodySum() != bodyHash(r) || !first.answers(r.Kind) {
			c.refuse(in.Waiter, reused)
		} else if err := c.borrow(in, first, flow, parents, unfit); err != nil {
			c.refuse(in.Waiter, err)
		} else {
			c.wait(first.ID, r.Kind, waiters, in.Waiter)
			if r.Kind == Call && in.Waiter != nil {
				c.beGuest(in.Waiter, guest{of: first.ID, call: r.ID, since: c.now.Mono, noHost: r.NoHost, busy: r.Busy})
			}
			if r.Kind == Call {
				c.seek(first.ID, r.Boot)
			}
			c.armOpen(first.ID)
		}
		return true
	}
	key := string(KeyInStore(r))
	b, again := c.lookup(in.View, key, key)
	if again {
		c.reread(in.Waiter)
		return true
	}
	var k keyUse
	if b == nil || decode(b, &k) != nil || k.gen != c.generation(r.Target.App) || ended && k.id != r.ID {
		return false
	}
	if k.body != bodyHash(r) {
		c.refuse(in.Waiter, reused)
		return true
	}
	if r.Kind != Call {
		c.reply(in.Waiter, nil, k.id)
		return true
	}
	o, again := c.storedOutcome(in.View, k.id, r.Target.App)
	switch {
	case again:
		c.reread(in.Waiter)
	case o == nil:
		c.refuse(in.Waiter, &Error{CodeOutcomeNotKept, "the request completed, its outcome was not kept", k.id})
	default:
		c.reply(in.Waiter, o, k.id)
	}
	return true
}

// keepEnding keeps a plain outcome until its caller has it.
func (c *Core) keepEnding(seq uint64, id ID, app string, o *Outcome, at int64) {
	noted := c.now.Mono
	if old := c.endings[id]; old != nil { // at most one is listed
		noted = old.noted
		c.dropEnding(id)
	}
	x := &ending{id: id, app: app, outcome: o, at: at, noted: noted, size: len(o.Body) + 256}
	c.endings[id] = x
	c.keep.placeEnding(&x.node, seq, x)
	c.endSize += x.size
}

// easeEndings drops the oldest outcomes under pressure. An owner decides that;
// how much is kept is no matter of the log.
func (c *Core) easeEndings() {
	for c.cfg.OutcomeBytes > 0 && c.endSize > c.cfg.OutcomeBytes && c.keep.endings.first != c.keep.endings.last {
		c.dropEnding(c.keep.oldestEnding().id)
	}
}

func (c *Core) dropEnding(id ID) {
	if x := c.endings[id]; x != nil {
		c.endSize -= x.size
		c.keep.remove(&x.node)
		delete(c.endings, id)
	}
}

// ofHost is what an outcome of a host stands for: the statuses that HTTP has for
// an answer, and of KAR's codes those of a host, which cannot speak for a gateway.
func (o *Outcome) ofHost() *Outcome {
	switch {
	case o == nil:
	case o.Status < 200 || o.Status > 599:
		return Errorf(CodeBadAnswer, "the component answered with status %d", o.Status).Outcome()
	case o.Code != "" && o.Code != CodeResultTooLarge && o.Code != CodeBadRequest && o.Code != CodeBadAnswer:
		return Errorf(CodeBadAnswer, "the host answered with the code %q, which is not its to give", clip(string(o.Code), 40)).Outcome()
	}
	return o
}
