package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A nested request is asked for while the way to its owner breaks: nobody knows whether it
// was accepted. That the next try is refused for good says nothing about the first one.
func TestRefusalBehindATryOfUnknownFate(t *testing.T) {
	rig := newMeshRig(t, 8)
	rig.lease = 6 * time.Second
	a, b := rig.open("a"), rig.open("b")
	spread(t, a, b)
	of := func(node string) uint16 {
		for p, o := range a.Owners() {
			if o == node {
				return uint16(p)
			}
		}
		t.Fatal(node, "owns nothing")
		return 0
	}
	here, there := of("a"), of("b")
	sessions := make(chan string, 1)
	attach(t, a, actorHost("h"), func(in *runtime.Invoke) *runtime.Outcome {
		sessions <- in.Session
		return nil
	})
	if _, err := a.Accept(within(t), tellTo(rig.actorIn(here))); err != nil {
		t.Fatal(err)
	}
	child := tellTo(rig.actorIn(there))
	child.Session, child.Boot = <-sessions, "h"
	held, release := make(chan struct{}, 1), make(chan struct{})
	rig.logs[there].setFault(func(_ string, before bool) error {
		if !before {
			return nil
		}
		select {
		case held <- struct{}{}:
		default:
		}
		<-release
		return runtime.Errorf(runtime.CodeDiskFull, "no space left")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	over := make(chan error, 1)
	go func() {
		_, err := a.Accept(ctx, child)
		over <- err
	}()
	<-held
	rig.net.sever("a", "b", true)
	close(release)
	time.Sleep(100 * time.Millisecond) // else the first try is refused, and this test shows nothing
	rig.net.sever("a", "b", false)
	if err := <-over; !errors.Is(err, context.DeadlineExceeded) { // it is asked for as long as its caller waits
		t.Errorf("it is told %v", err)
	}
}
