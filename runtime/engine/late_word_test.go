package engine_test

import (
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A host leaves a gateway that goes on reading what was sent to it before, or whose
// notes to the others stall. What it said there comes behind what it says now.
func TestLateWordOfAHost(t *testing.T) {
	r := newMeshRig(t, 4)
	a, b := r.open("a"), r.open("b")
	info := func(attachment uint64, frozen bool) runtime.HostInfo {
		h := actorHost("h")
		h.Grace, h.Attachment, h.Frozen = 3000, attachment, frozen
		return h
	}
	stands := func(when string) {
		t.Helper()
		for name, m := range map[string]*engine.Mesh{"a": a, "b": b} {
			if h, ok := m.HostOf("h"); !ok || h.Attachment != 2 || h.Frozen {
				t.Fatalf("%s, at %s: there %v, %+v", when, name, ok, h)
			}
		}
		r.calls(t, a)
		r.calls(t, b)
	}
	left := &fakeHost{owners: a, info: info(1, false), serve: func(m *runtime.Invoke) *runtime.Outcome {
		t.Errorf("%s is sent over a stream that is left", m.Path)
		return nil
	}}
	if err := a.HostUp(left.info, runtime.JoinAnswer{}, left); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host is known", func() bool { h, ok := b.HostOf("h"); return ok && h.Attachment == 1 })
	ran := make(chan string, 100)
	now := &fakeHost{owners: b, info: info(2, false), serve: func(m *runtime.Invoke) *runtime.Outcome {
		if m.Path == "/late" || m.Path == "/now" {
			ran <- m.Path
		}
		return echo(m)
	}}
	if err := b.HostUp(now.info, runtime.JoinAnswer{}, now); err != nil {
		t.Fatal(err)
	}
	defer now.stop()
	eventually(t, "the move is known", func() bool { h, ok := a.HostOf("h"); return ok && h.Attachment == 2 })
	stands("after the move")

	// What the gateway that was left still reads.
	a.HostChanged(info(1, true))
	stands("after a change")
	a.Joined("h", left, a.Epochs(), runtime.JoinAnswer{})
	stands("after a join")
	if _, lost := a.Beat("h"); lost {
		t.Fatal("lost")
	}
	stands("after a beat")
	a.LinkDown("h", left)
	stands("after the end of the stream")
	if err := a.HostUp(info(1, true), runtime.JoinAnswer{}, left); err == nil {
		t.Error("it is attached over a stream that it has left")
	}
	stands("after an attach")

	// What it told the others.
	frozen := info(1, true)
	for when, n := range map[string]*engine.HostNote{
		"after a note of a change": {Changed: &frozen},
		"after a note of a join":   {Up: &engine.HostUpNote{Info: frozen, Epochs: b.Epochs()}},
		"after a note of its end":  {Unlinked: true, Attachment: 1},
	} {
		n.Boot = "h"
		b.Heard("a", &engine.Note{Host: n})
		stands(when)
	}

	// What an owner has sent to the host where it was then, and is again.
	for attachment, path := range map[uint64]string{1: "/late", 2: "/now"} {
		m := &runtime.Invoke{Attempt: runtime.Attempt{ID: runtime.ID{byte(attachment)}}, Epoch: 1 << 40, Target: call("app", "A", "x", "m").Target, Method: "POST", Path: path}
		b.Heard("a", &engine.Note{ToHost: &engine.ToHostNote{Boot: "h", Attachment: attachment, Invoke: m}})
	}
	if path := <-ran; path != "/now" || len(ran) != 0 {
		t.Errorf("%s was run, and %d more", path, len(ran))
	}
}
