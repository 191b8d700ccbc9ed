package runtime

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// finish turns a complete answer of the host into the outcome, or into the
// next step when it is a tail call (P7).
func (c *Core) finish(e *entry, a *Answer) {
	o := *a.Outcome
	if a.ActivationFailed {
		c.endOn(e, &o, c.onlyAttemptOn(e))
		return
	}
	if tc, ok, err := tailCallOf(e, &o); err != nil {
		c.end(e, err.Outcome())
		return
	} else if ok {
		if e.cancelled {
			c.end(e, (&Error{CodeCancelled, "the request was cancelled", e.req.ID}).Outcome())
			return
		}
		c.next(e, tc)
		return
	}
	if e.step > 0 && !e.req.Target.IsActor() && o.Status == 200 {
		wrap(&o)
	}
	c.end(e, &o)
}

// onlyAttemptOn tells that no other request was given to the host for this
// actor. One that was may have activated it after the app had refused this one.
func (c *Core) onlyAttemptOn(e *entry) bool {
	a := c.actors[e.req.Target.Actor()]
	if a == nil || a.running > 1 {
		return a == nil
	}
	return !slices.ContainsFunc(a.resting.all(), func(x *entry) bool { return x.attempt > 0 })
}

// wrap makes an actor's result of a service's answer at the end of a chain, as KAR 1.x did.
func wrap(o *Outcome) {
	var v any = string(o.Body)
	var raw json.RawMessage
	if json.Unmarshal(o.Body, &raw) == nil {
		v = raw
	}
	b, err := json.Marshal(map[string]any{"value": v})
	if err != nil {
		return
	}
	*o = Outcome{Status: 200, Header: Header{"Content-Type": {"application/kar+json"}}, Body: b}
}

func (c *Core) end(e *entry, o *Outcome) { c.endBy(e, o, ID{}) }

// endBy ends what the change with that id has withdrawn.
func (c *Core) endBy(e *entry, o *Outcome, change ID) { c.endAs(e, o, completed{change: change}) }

// endOn records the outcome, here or by a message to the request's home.
func (c *Core) endOn(e *entry, o *Outcome, unplaced bool) {
	c.endAs(e, o, completed{unplaced: unplaced})
}

// endAs takes what else the record says.
func (c *Core) endAs(e *entry, o *Outcome, b completed) {
	if deadLetter(e.req.Kind, o) {
		c.Counts.DeadLetters++
		c.effect(Effect{Kind: AppError, ID: e.req.ID, Outcome: o, Target: e.req.Target})
	}
	o = c.fitting(o, e.req.ID, e.req.Target.bytes())
	target, comp := e.req.Target, componentOf(e.req.Target)
	c.overtaken(e)
	if e.home != c.cfg.Partition {
		m := &parcel{kind: msgOutcome, id: e.req.ID, of: target.App, gen: c.generation(target.App), outcome: *o}
		b.id, b.none, b.actor, b.at, b.step, b.replaced = e.req.ID, true, placeOf(target), c.now.Wall, e.step, e.replacedOf()
		c.emit(&b, OutMessage{To: e.home, Payload: encode(nil, m)})
	} else {
		req := &e.req
		if h := c.homes[e.req.ID]; h != nil {
			req = &h.req // the chain has come home; its key stayed there
		}
		b.actor = placeOf(target)
		c.emitOutcome(e.req.ID, req, o, &b)
	}
	if target.IsActor() {
		if a := c.actors[target.Actor()]; a != nil {
			c.touch(a)
		}
	} else if c.parked[comp] != nil {
		c.touchParked(comp)
	}
}

// emitOutcome ends req, as it was accepted; b.actor is where its last step ran.
func (c *Core) emitOutcome(id ID, req *Request, o *Outcome, b *completed) {
	b.id, b.outcome, b.at = id, *o, c.now.Wall
	if e := c.entries[id]; e != nil && e.attempt > 1 {
		b.step, b.replaced = e.step, e.replacedOf()
	}
	switch {
	case req.Key != "" || req.Kind == Promise:
		c.storeWith(b, req)
		b.outcome = *c.fitting(o, id, b.actor.bytes()+len(b.key))
	case req.Kind != Call:
		b.none = true
	default:
		b.app = req.Target.App
	}
	c.emit(b)
}

// endRemoval records that the state of an actor is gone, and what its key was used for.
func (c *Core) endRemoval(e *entry) {
	b := &completed{id: e.req.ID, none: true, removed: true, at: c.now.Wall, actor: e.req.Target.Actor(), gen: c.generation(e.req.Target.App) + 1}
	if e.req.Key != "" {
		b.none, b.outcome = false, Outcome{Status: 204}
		c.storeWith(b, &e.req)
	}
	c.emit(b)
}

// storeWith says in the record of an end all that the store is to know of it.
func (c *Core) storeWith(b *completed, r *Request) {
	b.app, b.storeTTL, b.gen = r.Target.App, c.cfg.ResultRetention, c.generation(r.Target.App)+1
	if r.Key != "" {
		b.key, b.sum = KeyInStore(r), r.bodySum()
	}
}

// fitting is the outcome, or what stands in its place when the log would refuse its
// record, of which more bytes vary.
func (c *Core) fitting(o *Outcome, id ID, more int) *Outcome {
	if c.fits(o.bytes() + more) {
		return o
	}
	return tooLarge(id)
}

func tooLarge(id ID) *Outcome {
	return (&Error{CodeResultTooLarge, "the result has more bytes than a record of the log", id}).Outcome()
}

// deadLetter tells an end that somebody should hear of although nobody waits
// for it: an error of the app, and whatever KAR itself ended a tell with (P1).
// The error of a promise that KAR ended is for those who ask for its outcome.
func deadLetter(k Kind, o *Outcome) bool {
	if o.Code != "" {
		return k == Tell || k == Remove
	}
	return k != Call && (o.Status >= 400 || isException(o))
}

// isException tells KAR's error result: 200 and {"error":true,…}.
func isException(o *Outcome) bool {
	if o.Status != 200 || !bytes.Contains(o.Body, []byte(`"error"`)) {
		return false
	}
	var v struct {
		Error bool `json:"error"`
	}
	return json.Unmarshal(o.Body, &v) == nil && v.Error
}

// next records that this step is done and the next one is due.
func (c *Core) next(e *entry, tc *tailCall) {
	t := Target{App: e.req.Target.App, Type: tc.ActorType, ID: tc.ActorID, Service: tc.ServiceName}
	if t.IsActor() {
		t.Service = ""
	}
	from := e.req.Target
	b := &continued{id: e.req.ID, step: e.step + 1, replaced: e.replacedOf(), target: t, method: tc.method(), path: tc.path(), body: []byte(tc.payload())}
	if !t.IsActor() {
		b.header = Header{"Content-Type": {"application/json"}}
	}
	b.keepLock = t.IsActor() && t == from && !tc.release()
	to := PartitionOf(t, "", e.req.ID, c.cfg.Partitions)
	if !c.fits(2*(t.bytes()+len(b.method)+len(b.path)) + len(b.body) + len(e.req.Key) + e.req.keyTarget().bytes() + len(e.req.Boot) + len(e.from.key) + e.fired.bytes() + 16*len(e.parents)) {
		c.end(e, (&Error{CodeResultTooLarge, "the tail call has more bytes than a record of the log", e.req.ID}).Outcome())
		return
	}
	if to == c.cfg.Partition {
		c.emit(b)
		c.touchTarget(e)
	} else {
		b.away = true
		m := &parcel{kind: msgStep, id: e.req.ID, gen: c.generation(t.App), home: e.home, step: b.step, flow: e.flow, req: Request{
			ID: e.req.ID, Kind: e.req.Kind, Target: t, Method: b.method, Path: b.path, Header: b.header, Body: b.body,
		}}
		b.header, b.body = nil, nil // the message has them
		c.emit(b, OutMessage{To: to, Payload: encode(nil, m)})
	}
	if from != t && from.IsActor() {
		if a := c.actors[from.Actor()]; a != nil {
			c.touch(a)
		}
	}
	c.arm(e)
}

// A tailCall is what a method returns to have something else done next
// (kar-compat 2.3). KAR 1.x SDKs write releaseLock as a string.
type tailCall struct {
	ActorType   string          `json:"actorType"`
	ActorID     string          `json:"actorId"`
	ServiceName string          `json:"serviceName"`
	Path        string          `json:"path"`
	Payload     json.RawMessage `json:"payload"`
	Method      string          `json:"method"`
	ReleaseLock any             `json:"releaseLock"`
}

func (t *tailCall) release() bool {
	switch v := t.ReleaseLock.(type) {
	case string:
		return strings.EqualFold(v, "true")
	case bool:
		return v
	}
	return false
}

func (t *tailCall) method() string {
	if t.Method == "" {
		return "POST"
	}
	return strings.ToUpper(t.Method)
}

func (t *tailCall) path() string {
	if !strings.HasPrefix(t.Path, "/") {
		return "/" + t.Path
	}
	return t.Path
}

// payload is the text in the string, or the JSON itself: kar-sdk's service
// tail call puts an object there.
func (t *tailCall) payload() string {
	var s string
	if json.Unmarshal(t.Payload, &s) == nil {
		return s
	}
	return string(t.Payload)
}

// tailCallOf recognises a tail call in an actor's answer, or in the answer of
// a service that says so by its content type.
func tailCallOf(e *entry, o *Outcome) (*tailCall, bool, *Error) {
	if o.Status != 200 || !bytes.Contains(o.Body, []byte(`"tailCall"`)) {
		return nil, false, nil
	}
	if !e.req.Target.IsActor() && !strings.HasPrefix(o.Header.Get("Content-Type"), "application/kar+json") {
		return nil, false, nil
	}
	var v struct {
		TailCall bool            `json:"tailCall"`
		Value    json.RawMessage `json:"value"`
	}
	if json.Unmarshal(o.Body, &v) != nil || !v.TailCall {
		return nil, false, nil
	}
	tc := &tailCall{}
	bad := &Error{CodeBadTailCall, "the method returned a tail call that names no target", e.req.ID}
	if err := json.Unmarshal(v.Value, tc); err != nil {
		return nil, false, bad
	}
	if (tc.ActorType == "") == (tc.ServiceName == "") || tc.Path == "" {
		return nil, false, bad
	}
	if err := checkPath(Target{App: e.req.Target.App, Type: tc.ActorType, ID: tc.ActorID, Service: tc.ServiceName}, tc.Path, CodeBadTailCall); err != nil {
		err.ID = e.req.ID
		return nil, false, err
	}
	return tc, true, nil
}
