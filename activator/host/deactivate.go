package host

import (
	"errors"
	"net/http"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// arrive counts an attempt on its actor from the moment the reader has it,
// which is before its goroutine comes to the instance; h.mu is held.
func (h *Host) arrive(actor runtime.Actor) { h.calls[actor]++ }

// leave ends what arrive began, and lets a deactivation that waits go on; h.mu is held.
func (h *Host) leave(actor runtime.Actor) {
	if h.calls[actor]--; h.calls[actor] > 0 {
		return
	}
	delete(h.calls, actor)
	if e := h.ending[actor]; e != nil {
		select {
		case e.quiet <- struct{}{}:
		default: // it has been told already
		}
	}
}

// deactivate starts a deactivation; the reader calls it. An actor that is not
// here is not active, which is the answer.
func (h *Host) deactivate(m *runtime.Deactivate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.exited || !h.parts.admit(m.Partition, m.Epoch) {
		return
	}
	h.beginEnd(m)
}

// beginEnd is the same for a message that may be obeyed; h.mu is held.
func (h *Host) beginEnd(m *runtime.Deactivate) {
	if e := h.ending[m.Actor]; e != nil {
		e.m = m // perhaps of a new owner
		return
	}
	if h.instances[m.Actor] == nil && h.calls[m.Actor] == 0 {
		h.send(&tunnel.Deactivated{Actor: m.Actor, Partition: m.Partition})
		return
	}
	e := &ending{m: m, quiet: make(chan struct{}, 1)}
	h.ending[m.Actor] = e
	h.wait.Go(func() { h.end(e) })
}

// ending is a deactivation in progress.
type ending struct {
	m     *runtime.Deactivate // the last that asked for it
	quiet chan struct{}       // tells that no attempt runs
}

// end waits until no attempt runs on the actor, then tells the app. After a
// purge the owner asks while attempts run that it has given up. They keep the
// instance, and so do nested calls that arrive meanwhile, which they may wait for.
func (h *Host) end(e *ending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer delete(h.ending, e.m.Actor)
	for {
		var settled chan struct{}
		inst := h.instances[e.m.Actor]
		own := inst != nil && inst.state == deactivating // begun by the host
		if own {
			settled = inst.settled
		}
		if h.calls[e.m.Actor] == 0 && (!own || isClosed(settled)) {
			break
		}
		h.mu.Unlock()
		select {
		case <-e.quiet:
		case <-settled:
		case <-h.ctx.Done():
		}
		h.mu.Lock()
		if h.ctx.Err() != nil {
			return
		}
	}
	m := e.m
	if !h.parts.admit(m.Partition, m.Epoch) {
		return // another owner has come meanwhile, which decides anew
	}
	inst := h.instances[m.Actor]
	if inst == nil {
		h.send(&tunnel.Deactivated{Actor: m.Actor, Partition: m.Partition})
		return
	}
	if inst.state != active {
		return
	}
	if h.quit(inst) == nil {
		h.send(&tunnel.Deactivated{Actor: inst.actor, Partition: inst.partition})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// quit tells the app that an active instance ends, and takes it out of the table
// when the app has answered; h.mu is held, but not while the app is asked.
func (h *Host) quit(inst *instance) error {
	inst.state, inst.settled = deactivating, make(chan struct{})
	defer close(inst.settled)
	h.mu.Unlock()
	o, err := h.request(&appRequest{method: http.MethodDelete, path: actorPath(inst.actor)}, inst)
	h.mu.Lock()
	if err != nil && !errors.Is(err, errStopped) {
		return err
	}
	if err == nil && o.Status >= 400 {
		h.cfg.Logger.Warn("the app answered the deactivation of an actor with an error", "type", inst.actor.Type, "id", inst.actor.ID, "status", o.Status)
	}
	if inst.state == gone { // the app was found anew, which was told
		return errStopped
	}
	h.remove(inst)
	return nil
}
