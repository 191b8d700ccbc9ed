package host

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/karmesh/kar/runtime"
)

// An instance is an actor that is active here, or becomes or ceases to be.
// The host's mutex guards it.
type instance struct {
	actor     runtime.Actor
	partition uint16
	place     int // in its partition's list
	state     instanceState
	settled   chan struct{}    // closed when activating or deactivating has ended
	refusal   *runtime.Outcome // the app refused to activate it
	err       error            // activating ended without an answer
	finding   sync.Mutex       // held while it is found out what a 404 means
	made      atomic.Uint32    // how often the app was found to have made it anew
	// replaced tells whether the app may be another program than before the actor became
	// active; nil without a witness. Finding guards it.
	replaced func() (yes, known bool)
}

type instanceState uint8

const (
	activating instanceState = iota
	active
	deactivating
	gone
)

// enter makes sure that the actor is active. Attempts that come at once share
// one activation.
func (h *Host) enter(actor runtime.Actor, m *runtime.Invoke) (*instance, *runtime.Outcome, error) {
	for {
		h.mu.Lock()
		inst := h.instances[actor]
		if inst == nil {
			inst = &instance{actor: actor, partition: m.Attempt.Partition, settled: make(chan struct{})}
			h.instances[actor] = inst
			h.parts.add(inst)
			h.mu.Unlock()
			return h.activate(inst, m.Session)
		}
		if inst.state == active {
			h.mu.Unlock()
			return inst, nil, nil
		}
		shared := inst.state == activating
		settled := inst.settled
		h.mu.Unlock()
		select {
		case <-settled:
		case <-h.ctx.Done():
			return nil, nil, errLeft
		}
		if shared && (inst.refusal != nil || inst.err != nil) {
			return nil, inst.refusal, inst.err
		}
	}
}

func (h *Host) activate(inst *instance, session string) (*instance, *runtime.Outcome, error) {
	inst.replaced = h.programs() // nobody else has it before it is settled
	o, err := h.request(&appRequest{method: http.MethodGet, path: actorPath(inst.actor) + withSession("", session)}, inst)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer close(inst.settled)
	switch {
	case err != nil:
		inst.err = err
		if errors.Is(err, errStopped) {
			h.remove(inst)
		}
		return nil, nil, err
	case o.Status >= 400:
		inst.refusal = o
		h.remove(inst)
		return nil, o, nil
	}
	inst.state = active
	return inst, nil, nil
}

// forget removes an instance that turned out not to be active.
func (h *Host) forget(inst *instance) {
	h.mu.Lock()
	h.remove(inst)
	h.mu.Unlock()
}

// remove takes inst out of the table; h.mu is held.
func (h *Host) remove(inst *instance) {
	inst.state = gone
	if h.instances[inst.actor] == inst {
		delete(h.instances, inst.actor)
		h.parts.remove(inst)
		if h.draining && len(h.instances) == 0 || h.parts.at(inst.partition).lower != nil {
			h.notify()
		}
	}
}
