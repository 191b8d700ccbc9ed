package mesh_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestMeshKillGateways kills each gateway in turn under load; a new one, at
// another address, joins after each. In the end none of the gateways that
// clients and components were told at the start is left.
func TestMeshKillGateways(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 16})
	l.progress("before the first kill", 20)
	calm := time.Now()
	l.progress("with all three", 40)
	l.gaps(t, "undisturbed", calm, time.Now())
	for i, g := range gs {
		m.forget(g)
		begin := time.Now()
		g.end(syscall.SIGKILL)
		l.progress(fmt.Sprintf("kill %d", i+1), 30)
		l.gaps(t, fmt.Sprintf("kill %d", i+1), begin, time.Now())
		begin = time.Now()
		m.gateway()
		l.progress("a new gateway", 30)
		l.gaps(t, "a new gateway", begin, time.Now())
	}
	l.verify()
	c1.untouched()
	c2.untouched()
}
