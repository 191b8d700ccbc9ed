package mesh_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestMeshSoakRollingRestart replaces each component and each gateway in turn,
// in order, under load: nothing is interrupted, nobody is refused, and each actor
// that was active in a component that ends is told so, once, also when nothing
// runs. Under make soak it goes round and round.
func TestMeshSoakRollingRestart(t *testing.T) {
	until := time.Now()
	if v := os.Getenv("KAR_SOAK"); v != "" {
		length, err := time.ParseDuration(v)
		must(t, err)
		until = until.Add(min(length, 5*time.Minute))
	}
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	comps := []*component{m.component(w, ""), m.component(w, "")}
	idle := 0
	quiet := func(i int) { // nobody calls anybody
		c := comps[i]
		comps[i] = m.component(w, "")
		c.end(syscall.SIGTERM)
		if n := w.noted("activated", c.app); n < 50 {
			t.Errorf("%d actors had been activated: nothing was tested", n)
		}
		for _, actor := range w.left(c.app) {
			t.Errorf("not told of the end, while nothing ran: %s", actor)
		}
	}
	for range 400 {
		m.touch(fmt.Sprintf("idle%d", idle), fmt.Sprintf("idle-%d", idle))
		idle++
	}
	quiet(0)
	quiet(1)
	l := m.load(w, loadOptions{clients: 12, ms: 5, patience: 2 * time.Minute})
	for round := 0; round == 0 || time.Now().Before(until); round++ {
		l.progress("before", 10)
		for range 20 { // actors that are called once, and are idle from then on
			m.touch(fmt.Sprintf("idle%d", idle), fmt.Sprintf("idle-%d", idle))
			idle++
		}
		for i, c := range comps {
			comps[i] = m.component(w, "")
			l.progress("a new component", 5)
			begin := time.Now()
			c.end(syscall.SIGTERM)
			t.Logf("the component took %s to end; %d actors had been activated in it", time.Since(begin).Round(time.Millisecond), w.noted("activated", c.app))
			for _, actor := range w.left(c.app) {
				t.Errorf("not told of the end: %s", actor)
			}
			l.progress("a component ended", 10)
			l.gaps(t, "a component ended", begin, time.Now())
		}
		for i, g := range gs {
			gs[i] = m.gateway()
			m.forget(g)
			begin := time.Now()
			g.end(syscall.SIGTERM)
			l.progress("a gateway ended", 10)
			l.gaps(t, "a gateway ended", begin, time.Now())
		}
	}
	l.verify()
	for i := range idle {
		if n := w.of(fmt.Sprintf("idle-%d", i)); n != 1 {
			t.Errorf("call %d of an idle actor was run %d times", i, n)
		}
	}
	for _, c := range comps {
		c.untouched()
		c.end(syscall.SIGTERM)
		for _, actor := range w.left(c.app) {
			t.Errorf("not told of the end: %s", actor)
		}
	}
}
