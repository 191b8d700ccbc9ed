package runtimetest

import (
	"fmt"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// simGroup is the name that every app gives to its group: a group belongs to its
// app, so each app gets each event.
const simGroup = "g"

// eventTold notes an event that was delivered: it is one request for each group
// (P9), or for each life of a subscription that changes.
func (w *witness) eventTold(x *simAttempt) {
	if l := w.lifeOf(x); l != nil && l.subscription && x.m.Attempt.Step == 0 {
		w.eventOf(l, x)
	}
	if x.m.Path != "/event" || x.m.Attempt.Step > 0 || w.purging(x.m.Target.App) {
		return
	}
	if x.m.Target.App == simApp && w.wasPurged && x.m.Attempt.ID.Millis() <= simStart+w.purgedAt {
		return // of a group that the purge has ended; it was on its way to the host
	}
	k := w.groupOf(x.m.Target) + string(x.m.Body)
	if w.events[k] == nil {
		w.events[k] = map[runtime.ID]bool{}
	}
	w.events[k][x.m.Attempt.ID] = true
	if len(w.events[k]) > 1 {
		w.fail("P9: %s has more than one request", k)
	}
}

func (w *witness) groupOf(t runtime.Target) string {
	for _, s := range w.s.subs {
		if s.Actor == t.Actor() {
			return t.App + "/" + s.Group + "|"
		}
	}
	return "?"
}

// forgetEvents: the groups of an app end with a purge. A subscription that is
// asked for once more behind it begins at its own offset.
func (w *witness) forgetEvents(app string) {
	for k := range w.events {
		if strings.HasPrefix(k, app+"/") {
			delete(w.events, k)
		}
	}
}

// eventsOf judges the groups of an app when all is over.
func (w *witness) eventsOf(app string) {
	for i := range w.s.topic {
		for _, g := range []string{app + "/|", app + "/" + simGroup + "|"} {
			n := len(w.events[fmt.Sprintf("%s[%s]", g, w.s.topic[i])])
			if n > 1 || n == 0 && !w.drainedSince(app, 0) {
				w.fail("P9: event %d of group %q became %d requests", i, g, n)
			}
		}
	}
}
