package mesh_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// A link is a proxy that can be cut and made slow.
type link struct {
	*toxiproxy.Proxy
	t *testing.T
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "link", "127.0.0.1:0", to)
	must(t, p.Start())
	t.Cleanup(p.Stop)
	return &link{p, t}
}

// slow delays what passes, half of it in each direction.
func (l *link) slow(d time.Duration) {
	l.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		l.toxic(fmt.Sprintf(`{"name":"slow-%s","type":"latency","stream":%q,"attributes":{"latency":%d}}`, stream, stream, d.Milliseconds()/2))
	}
}

func (l *link) quick() {
	l.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		must(l.t, l.Toxics.RemoveToxic(l.t.Context(), "slow-"+stream))
	}
}

// cut swallows everything: no connection breaks, nothing arrives.
func (l *link) cut() {
	l.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		l.toxic(fmt.Sprintf(`{"name":"cut-%s","type":"timeout","stream":%q,"attributes":{"timeout":0}}`, stream, stream))
	}
}

func (l *link) mend() {
	l.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		must(l.t, l.Toxics.RemoveToxic(l.t.Context(), "cut-"+stream))
	}
}

func (l *link) toxic(json string) {
	l.t.Helper()
	_, err := l.Toxics.AddToxicJson(strings.NewReader(json))
	must(l.t, err)
}

// linked starts a gateway that the others, and hosts that are told of it, reach
// over a link; who knows its own address goes there directly.
func (m *mesh) linked() (*gateway, *link) {
	m.t.Helper()
	g := m.launchAt("127.0.0.1:" + freePort(m.t))
	m.ready(g.gateway)
	return g.gateway, g.link
}

type linkedGateway struct {
	*gateway
	link *link
}

func (m *mesh) launchAt(address string) linkedGateway {
	m.t.Helper()
	p := newLink(m.t, address)
	g := &gateway{url: "http://" + address, process: m.start(nil, "gateway", "--listen", address, "--advertise", "http://"+p.Listen)}
	m.mu.Lock()
	m.gateways = append(m.gateways, g)
	m.mu.Unlock()
	return linkedGateway{g, p}
}

// TestMeshHostLink makes the link between a component and its gateway slow, and
// cuts it: the component goes to another gateway, and loses nothing.
func TestMeshHostLink(t *testing.T) {
	m, w := newMesh(t, options{}), newWitness(t)
	gs := m.three()
	p := newLink(t, strings.TrimPrefix(gs[0].url, "http://"))
	c := m.component(w, "http://"+p.Listen)
	l := m.load(w, loadOptions{clients: 12})
	l.progress("before", 20)
	p.slow(100 * time.Millisecond)
	begin := time.Now()
	l.progress("slow link", 10)
	l.gaps(t, "with 100 ms between component and gateway", begin, time.Now())
	p.quick()
	l.progress("quick again", 10)
	p.cut()
	begin = time.Now()
	l.progress("cut", 20)
	l.gaps(t, "link between component and gateway cut", begin, time.Now())
	p.mend()
	l.progress("mended", 20)
	l.verify()
	c.untouched()
}

// TestMeshGatewayLink cuts the links between one gateway and the others for
// longer than a gateway's lease and less than a host's, under load: each
// gateway reaches Kafka and Redis, so none is counted dead. Then it makes them slow.
func TestMeshGatewayLink(t *testing.T) {
	t.Parallel() // most of its time it waits
	m, w := newMesh(t, options{}), newWitness(t)
	_, p1 := m.linked()
	_, p2 := m.linked()
	_, p3 := m.linked()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 12, try: time.Second})
	l.progress("before", 20)
	begin := time.Now()
	for _, p := range []*link{p1, p2, p3} {
		p.cut()
	}
	time.Sleep(3 * gatewayLease) // for which they hear nothing of each other
	for _, p := range []*link{p1, p2, p3} {
		p.mend()
	}
	l.progress("after the cut", 20)
	l.gaps(t, fmt.Sprintf("gateways cut off from each other for %s", 3*gatewayLease), begin, time.Now())
	begin = time.Now()
	for _, p := range []*link{p1, p2, p3} {
		p.slow(100 * time.Millisecond)
	}
	l.progress("slow links", 10)
	l.gaps(t, "with 100 ms between gateways", begin, time.Now())
	for _, p := range []*link{p1, p2, p3} {
		p.quick() // for the tells that are left
	}
	l.verify()
	c1.untouched()
	c2.untouched()
}

// TestMeshHostOwnerLinkCut cuts the link between two gateways for much longer
// than the lease of components; all else is healthy. A component that holds
// work of an owner at the other side is frozen within its lease, that work is
// done elsewhere, and when the link is back it is ended before it does any more.
// Gateways have their default lease, so that none is counted dead on a busy machine.
func TestMeshHostOwnerLinkCut(t *testing.T) {
	t.Parallel() // most of its time it waits
	m, w := newMesh(t, options{env: []string{"KAR_GATEWAY_LEASE=2s"}}), newWitness(t)
	g1, p1 := m.linked()
	g2, p2 := m.linked()
	here := m.component(w, g1.url)
	l := m.load(w, loadOptions{clients: 16, ms: 20, kinds: []string{"add", "touch"}, attempts: true, try: time.Second})
	l.progress("before", 20)
	begin := time.Now()
	p1.cut()
	p2.cut()
	eventually(t, hostLease+2*time.Second, "the component is frozen", func() bool { return stopped(here.app) })
	t.Logf("frozen %s after the cut", time.Since(begin).Round(time.Millisecond))
	there := m.component(w, g2.url)
	l.progressOf(3, "on the other side during the cut", 20)
	t.Logf("work goes on elsewhere %s after the cut", time.Since(begin).Round(time.Millisecond))
	if !stopped(here.app) {
		t.Error("the component goes on although an owner that it cannot reach has given its work away")
	}
	p1.mend()
	p2.mend()
	mended := time.Now()
	here.code(20 * time.Second) // it has been counted lost, and hears it
	l.progress("after the cut", 20)
	l.gaps(t, "the link is back", mended, time.Now())
	l.verify()
	there.untouched()
}
