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
	if e := h.ending[m.Actor]; e != nil {
		e.m, e.asked = m, true // perhaps of a new owner
		return
	}
	if h.instances[m.Actor] == nil && h.calls[m.Actor] == 0 {
		h.send(&tunnel.Deactivated{Deactivate: *m})
		return
	}
	h.beginEnd(&ending{m: m, asked: true})
}

// beginEnd starts one; h.mu is held.
func (h *Host) beginEnd(e *ending) {
	e.quiet = make(chan struct{}, 1)
	h.ending[e.m.Actor] = e
	h.wait.Go(func() { h.end(e) })
}

// ending is a deactivation in progress.
type ending struct {
	m     *runtime.Deactivate // the last that asked for it
	asked bool                // by an owner, to whom it is confirmed
	quiet chan struct{}       // tells that no attempt runs
}

// confirm answers the last that asked; h.mu is held. What nobody has asked for is
// not told: the actor keeps its place, and is activated here again when it is called.
func (h *Host) confirm(e *ending) {
	if e.asked {
		h.send(&tunnel.Deactivated{Deactivate: *e.m})
	}
}

// end tells the app when nothing runs on the actor, and then who has asked.
func (h *Host) end(e *ending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer delete(h.ending, e.m.Actor)
	for h.rests(e) {
		inst := h.instances[e.m.Actor]
		if inst == nil {
			h.confirm(e)
			return
		}
		if inst.state != active || h.quit(inst) != nil {
			return // an exit will tell
		}
	}
}

// rests waits until no attempt runs on the actor; h.mu is held, but not meanwhile.
// After a purge the owner asks while attempts run that it has given up. They keep
// the instance, and so do nested calls that arrive meanwhile, which they may wait
// for. False means that nobody waits any more.
func (h *Host) rests(e *ending) bool {
	for {
		var settled chan struct{}
		inst := h.instances[e.m.Actor]
		own := inst != nil && inst.state == deactivating // begun by the host
		if own {
			settled = inst.settled
		}
		if h.calls[e.m.Actor] == 0 && (!own || isClosed(settled)) {
			// Another owner that has come meanwhile decides anew.
			return h.parts.admit(e.m.Partition, e.m.Epoch)
		}
		h.mu.Unlock()
		select {
		case <-e.quiet:
		case <-settled:
		case <-h.ctx.Done():
		}
		h.mu.Lock()
		if h.ctx.Err() != nil {
			return false
		}
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
	h.remove(inst) // it is gone already when the app was found anew
	return nil
}
