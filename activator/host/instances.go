package host

import (
	"errors"
	"net/http"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// An instance is an actor that is active here, or becomes or ceases to be.
// The host's mutex guards it.
type instance struct {
	actor     runtime.Actor
	partition uint16
	state     instanceState
	settled   chan struct{}    // closed when activating or deactivating has ended
	refusal   *runtime.Outcome // the app refused to activate it
	err       error            // activating ended without an answer
	running   int
}

type instanceState uint8

const (
	activating instanceState = iota
	active
	deactivating
	gone
)

// enter makes sure that the actor is active and counts the caller as running
// on it. Attempts that come at once share one activation.
func (h *Host) enter(actor runtime.Actor, m *runtime.Invoke) (*instance, *runtime.Outcome, error) {
	for {
		h.mu.Lock()
		inst := h.instances[actor]
		if inst == nil {
			inst = &instance{actor: actor, partition: m.Attempt.Partition, settled: make(chan struct{}), running: 1}
			h.instances[actor] = inst
			h.mu.Unlock()
			return h.activate(inst, m.Session)
		}
		if inst.state == active {
			inst.running++
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
	o, err := h.request(&appRequest{method: http.MethodGet, path: actorPath(inst.actor) + withSession("", session)}, inst)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer close(inst.settled)
	switch {
	case err != nil:
		inst.err, inst.running = err, 0
		if errors.Is(err, errStopped) {
			h.remove(inst)
		}
		return nil, nil, err
	case o.Status >= 400:
		inst.refusal, inst.running = o, 0
		h.remove(inst)
		return nil, o, nil
	}
	inst.state = active
	return inst, nil, nil
}

func (h *Host) leave(inst *instance) {
	h.mu.Lock()
	inst.running--
	h.mu.Unlock()
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
	}
}

// deactivate starts a deactivation; the reader calls it. An actor that is not
// here is not active, which is the answer.
func (h *Host) deactivate(m *runtime.Deactivate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.exited || !h.attempts.admit(m.Partition, m.Epoch) {
		return
	}
	inst := h.instances[m.Actor]
	if inst == nil {
		h.send(&tunnel.Deactivated{Actor: m.Actor, Partition: m.Partition})
		return
	}
	if inst.state == deactivating {
		return
	}
	h.wait.Go(func() { h.end(inst) })
}

// end waits for an activation in progress, then tells the app.
func (h *Host) end(inst *instance) {
	select {
	case <-inst.settled:
	case <-h.ctx.Done():
		return
	}
	h.mu.Lock()
	if inst.state == gone {
		h.send(&tunnel.Deactivated{Actor: inst.actor, Partition: inst.partition})
	}
	if inst.state != active {
		h.mu.Unlock()
		return
	}
	inst.state, inst.settled = deactivating, make(chan struct{})
	h.mu.Unlock()
	o, err := h.request(&appRequest{method: http.MethodDelete, path: actorPath(inst.actor)}, inst)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer close(inst.settled)
	if err != nil && !errors.Is(err, errStopped) {
		return
	}
	if err == nil && o.Status >= 400 {
		h.cfg.Logger.Warn("the app answered the deactivation of an actor with an error", "type", inst.actor.Type, "id", inst.actor.ID, "status", o.Status)
	}
	if inst.state != gone {
		h.remove(inst)
		h.send(&tunnel.Deactivated{Actor: inst.actor, Partition: inst.partition})
	}
}
