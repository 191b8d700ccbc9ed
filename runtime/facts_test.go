package runtime

import (
	"fmt"
	"strings"
	"testing"
)

// However many apps were purged, services registered and hosts lost, a header
// stays small, and so does every record by which they are kept.
func TestFactsOutgrowNoRecord(t *testing.T) {
	w := newWorld(t)
	w.quiet = true
	p := w.parts[0]
	for i := range 3000 {
		p.core.Step(w.now, &Purge{App: fmt.Sprint("app", i), Waiter: "purge"})
		boot := fmt.Sprint("boot", i)
		p.core.Step(w.now, &HostJoined{Info: HostInfo{Boot: boot, App: "x", Service: "s", Grace: 6000}})
		p.core.Step(w.now, &HostDown{Boot: boot, Reason: "exit"})
	}
	for i := range maxServices {
		p.core.Step(w.now, &SetService{App: "x", Name: fmt.Sprint("s", i), Timeout: 1000, URL: "http://x/" + strings.Repeat("u", maxServiceURL-9)})
	}
	w.finish(p, "")
	before := durable(p.core)
	from := len(p.log)
	w.trim(p, 0)
	for _, b := range p.full[from:] {
		if len(b) > maxServiceURL+200 {
			r, _ := DecodeRecord(b)
			t.Errorf("%T has %d bytes", r.Body, len(b))
		}
	}
	if d := differences(before, durable(w.foldCore(p, p.log)), func(k string) bool { return k == "changed" }); d != "" {
		t.Error(clip(d, 2000))
	}
}

// A url component is small, and an app has not more than so many of them.
func TestServicesAreBounded(t *testing.T) {
	w := newWorld(t)
	set := func(name, url string) string {
		w.out.Reset()
		w.step(0, &SetService{App: "x", Name: name, URL: url, Timeout: 1000, Waiter: "w"})
		return w.out.String()
	}
	if got := set("s", strings.Repeat("u", maxServiceURL+1)); !strings.Contains(got, "refused too_large") {
		t.Error(got)
	}
	if got := set(strings.Repeat("n", maxServiceName+1), "http://x"); !strings.Contains(got, "refused too_large") {
		t.Error(got)
	}
	for i := range maxServices {
		set(fmt.Sprint("s", i), "http://x")
	}
	if got := set("more", "http://x"); !strings.Contains(got, "refused too_large") {
		t.Error(got)
	}
	if got := set("s1", "http://y"); !strings.Contains(got, "true") {
		t.Error(got)
	}
}

// Boots that had nothing from this partition cost no record and bounded memory,
// and the youngest are still known.
func TestStrangersAreBounded(t *testing.T) {
	w := newWorld(t)
	p := w.parts[0]
	for i := range 2 * maxStrangers {
		p.core.Step(w.now, &HostDown{Boot: fmt.Sprint("b", i), Reason: "exit"})
	}
	if p.core.Pending() > 0 || len(p.core.strangers) > maxStrangers || len(p.core.strange) > maxStrangers || len(p.core.lost) > 0 {
		t.Error(p.core.Pending(), len(p.core.strangers), len(p.core.lost))
	}
	if !p.core.isLost(fmt.Sprint("b", 2*maxStrangers-1)) {
		t.Error("the last one is forgotten")
	}
}

// Lost boots are forgotten a week later, or, when there are very many, after
// the id window; looking for them costs nothing.
func TestLostBootsAreForgotten(t *testing.T) {
	w := newWorld(t)
	p := w.parts[0]
	for i := range maxLost + 10 {
		p.core.emit(&hostLost{boot: fmt.Sprint("b", i), at: w.now.Wall})
	}
	w.now.Wall, w.now.Mono = w.now.Wall+w.cfg.IDWindow+1, w.now.Mono+w.cfg.IDWindow+1
	p.core.Step(w.now, &Tick{})
	if n := len(p.core.lost); n != maxLost {
		t.Error(n, "lost boots after the id window")
	}
	w.now.Wall, w.now.Mono = w.now.Wall+factMemory, w.now.Mono+factMemory
	p.core.Step(w.now, &Tick{})
	if len(p.core.lost) != 0 || len(p.core.lostOrder) != 0 {
		t.Error(len(p.core.lost), "lost boots after a week")
	}
}

// An app of which nothing is left is not remembered; one that was purged is for
// a week, where no other partition could remember it longer.
func TestAppsAreForgotten(t *testing.T) {
	w := newWorld(t)
	p := w.parts[0]
	for i := range 50 {
		a := Target{App: fmt.Sprint("app", i), Type: "A", ID: "1"}
		id := w.newID(fmt.Sprint("r", i), a, "")
		w.step(0, &Submit{Request: Request{ID: id, Target: a, Method: "POST", Path: "/m"}, Waiter: "r"})
		w.step(0, &Cancel{App: a.App, ID: id, Waiter: "c"})
	}
	if n := len(p.core.apps); n != 0 {
		t.Errorf("%d apps are remembered for nothing", n)
	}
	w.command("purge once")
	w.command("purge used")
	w.command("tell mine used:A/1 /m")
	w.command("jump 1h")
	w.trim(p, 0)
	if p.core.generation("once") != 1 || p.core.generation("used") != 1 {
		t.Error("a purge is forgotten after an hour")
	}
	w.command(fmt.Sprint("jump ", factMemory))
	w.trim(p, 0)
	if p.core.generation("once") != 0 || p.core.generation("used") != 1 {
		t.Error(p.core.generation("once"), p.core.generation("used"))
	}
}
