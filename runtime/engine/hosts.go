package engine

import (
	"maps"
	"reflect"
	"sort"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

var _ runtime.Owners = (*Mesh)(nil)

// Guests are the hosts of the mesh as this node knows them. A host is attached
// to one gateway, which passes on what it and the owners of the partitions have
// to say to each other.
type guests struct {
	mu *sync.Mutex
	// attached hosts have their stream here.
	attached map[string]*guest
	// links lead from the owners here to hosts, wherever they are attached.
	links map[string]runtime.Link
	hosts map[string]runtime.HostInfo
	// downs are boots whose end was proven here a short while ago; new owners are told.
	downs map[string]down
	said  said
	// asked are the notes that wait for an answer.
	asked map[uint64]func(*HostTaken)
	seq   uint64
}

type guest struct {
	info    runtime.HostInfo
	link    runtime.Link
	backlog backlog
	telling sync.Mutex // what it has said goes to the owners in one order
}

// said remembers the boots of whose end the log of this node has spoken: each of
// the partitions finds it, one of them says so.
type said struct{ now, before map[string]struct{} }

const saidAtOnce = 1000

func (s *said) say(boot string, line func()) {
	_, old := s.before[boot]
	if _, known := s.now[boot]; known || old {
		return
	}
	if s.now == nil || len(s.now) >= saidAtOnce {
		s.before, s.now = s.now, map[string]struct{}{}
	}
	s.now[boot] = struct{}{}
	line()
}

type down struct {
	reason string
	app    string
	at     time.Time
}

func newGuests() guests {
	return guests{
		mu: &sync.Mutex{}, attached: map[string]*guest{}, links: map[string]runtime.Link{}, hosts: map[string]runtime.HostInfo{},
		downs: map[string]down{}, asked: map[uint64]func(*HostTaken){},
	}
}

// Epochs implements runtime.Owners.
func (m *Mesh) Epochs() []runtime.PartitionEpoch {
	es := make([]runtime.PartitionEpoch, len(m.parts))
	for i, p := range m.parts {
		es[i] = runtime.PartitionEpoch{Partition: p.n, Epoch: max(p.epoch.Load(), m.dir.of(p.n).epoch)}
	}
	return es
}

// Gateways implements runtime.Owners.
func (m *Mesh) Gateways() (addresses []string) {
	if m.owned == nil {
		return nil
	}
	live, _ := m.owned.live()
	for i := range live {
		if !live[i].Leaving && live[i].Address != "" {
			addresses = append(addresses, live[i].Address)
		}
	}
	return addresses
}

// send passes a message on; without a link it vanishes and the next join repairs it.
func (m *Mesh) send(boot string, msg runtime.HostMessage) {
	m.mu.Lock()
	l := m.links[boot]
	m.mu.Unlock()
	if l != nil {
		l.Send(msg)
	}
}

// attachedLink is the link of an attachment (0 for whichever), nil when it is over.
func (m *Mesh) attachedLink(boot string, attachment uint64) runtime.Link {
	m.mu.Lock()
	defer m.mu.Unlock()
	over := runtime.HostInfo{Attachment: attachment}
	if g := m.attached[boot]; g != nil && !over.Before(&g.info) {
		return g.link
	}
	return nil
}

// here tells hosts that only the owners at this node know: those that live in it.
func here(h *runtime.HostInfo) bool { return h.URL != "" }

// HostChanged implements runtime.Owners.
func (m *Mesh) HostChanged(h runtime.HostInfo) {
	m.mu.Lock()
	g := m.attached[h.Boot]
	m.mu.Unlock()
	if g == nil { // lost, or attached somewhere else
		return
	}
	g.telling.Lock()
	defer g.telling.Unlock()
	m.mu.Lock()
	if m.attached[h.Boot] != g || h.Before(&g.info) {
		m.mu.Unlock()
		return
	}
	if h.Grace == 0 {
		h.Grace = g.info.Grace
	}
	same := reflect.DeepEqual(g.info, h)
	g.info = h
	m.mu.Unlock()
	if same {
		return
	}
	m.changed(h)
	if !here(&h) {
		m.tellAll(&Note{Host: &HostNote{Boot: h.Boot, Changed: &h}})
	}
}

func (m *Mesh) changed(h runtime.HostInfo) {
	m.mu.Lock()
	old, known := m.hosts[h.Boot]
	if !known || h.Before(&old) { // counted lost, and not told yet; or attached again
		m.mu.Unlock()
		return
	}
	if h.Grace == 0 {
		h.Grace = old.Grace
	}
	m.hosts[h.Boot] = h
	m.mu.Unlock()
	for _, p := range m.parts {
		p.push(&runtime.HostChanged{Info: h})
	}
}

// LinkDown implements runtime.Owners.
func (m *Mesh) LinkDown(boot string, link runtime.Link) {
	m.mu.Lock()
	g := m.attached[boot]
	mine := g != nil && g.link == link
	if mine {
		delete(m.attached, boot)
	}
	m.mu.Unlock()
	if mine {
		m.unlinked(boot, link)
		if !here(&g.info) {
			m.tellAll(&Note{Host: &HostNote{Boot: boot, App: g.info.App, Unlinked: true, Attachment: g.info.Attachment}})
		}
	}
}

// unlinked forgets a link, unless another one has taken its place.
func (m *Mesh) unlinked(boot string, link runtime.Link) {
	m.mu.Lock()
	mine := m.links[boot] == link
	attachment := m.hosts[boot].Attachment
	if mine {
		delete(m.links, boot)
		delete(m.hosts, boot)
	}
	m.mu.Unlock()
	if mine {
		for _, p := range m.parts {
			p.push(&runtime.HostUnlinked{Boot: boot, Attachment: attachment})
		}
	}
}

// linkTo takes it that a host is attached over link, here when g is not nil. It tells
// whether that is so: when the host has attached again since, what was on its way is
// late. The stream of an earlier attachment is over, whoever says so when.
func (m *Mesh) linkTo(h *runtime.HostInfo, link runtime.Link, g *guest) bool {
	m.mu.Lock()
	last := m.hosts[h.Boot]
	if h.Before(&last) {
		m.mu.Unlock()
		return false
	}
	if g != nil {
		m.attached[h.Boot] = g
	} else if old := m.attached[h.Boot]; old != nil && old.info.Before(h) {
		delete(m.attached, h.Boot)
	}
	m.links[h.Boot] = link
	if g != nil || !here(h) {
		m.hosts[h.Boot] = *h
	}
	m.mu.Unlock()
	if last.Before(h) {
		for _, p := range m.parts {
			p.push(&runtime.HostUnlinked{Boot: h.Boot, Attachment: last.Attachment})
		}
	}
	return true
}

// HostDown implements runtime.Owners.
func (m *Mesh) HostDown(boot, reason string) {
	m.mu.Lock()
	now := time.Now()
	for b, d := range m.downs {
		if now.Sub(d.at) > 4*m.cfg.Lease { // the owners have counted it lost by themselves
			delete(m.downs, b)
		}
	}
	app := m.appLocked(boot)
	m.downs[boot] = down{reason, app, now}
	delete(m.attached, boot)
	m.mu.Unlock()
	m.hostDown(boot, reason)
	m.tellAll(&Note{Host: &HostNote{Boot: boot, App: app, Down: &reason}})
}

func (m *Mesh) hostDown(boot, reason string) {
	m.mu.Lock()
	delete(m.links, boot)
	delete(m.hosts, boot)
	m.mu.Unlock()
	for _, p := range m.parts {
		p.push(&runtime.HostDown{Boot: boot, Reason: reason})
	}
}

// resendDowns tells new owners of hosts whose end was proven here.
func (m *Mesh) resendDowns(news []runtime.PartitionEpoch) {
	nodes := map[string]bool{}
	for _, e := range news {
		nodes[m.dir.of(e.Partition).node] = true
	}
	m.mu.Lock()
	downs := maps.Clone(m.downs)
	m.mu.Unlock()
	for boot, d := range downs {
		for node := range nodes {
			if node == m.cfg.Node {
				for _, e := range news {
					m.part(e.Partition).push(&runtime.HostDown{Boot: boot, Reason: d.reason})
				}
			} else if node != "" {
				m.peers.Tell(node, &Note{Host: &HostNote{Boot: boot, App: d.app, Down: &d.reason}})
			}
		}
	}
}

// ended takes what the log says now, that a host will not come back. One that
// still lives has to stop its app.
func (m *Mesh) ended(boot string, end runtime.HostEnd) {
	m.send(boot, &runtime.Verdict{Reason: end.Reason})
	m.mu.Lock()
	m.said.say(boot, func() {
		say, text := m.cfg.Logger.Warn, "component lost"
		if end.Proven {
			say, text = m.cfg.Logger.Info, "component ended"
			m.tally.hostsEnded.Add(1)
		} else {
			m.tally.hostsLost.Add(1)
		}
		say(text, "component", end.Name, "app", end.App, "boot", boot, "reason", end.Reason)
	})
	delete(m.links, boot)
	delete(m.hosts, boot)
	delete(m.attached, boot)
	m.mu.Unlock()
}

// Hosts lists the live hosts of an app ("" for all), sorted by boot.
func (m *Mesh) Hosts(app string) []runtime.HostInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	var hs []runtime.HostInfo
	for _, h := range m.hosts {
		if app == "" || h.App == app {
			hs = append(hs, h)
		}
	}
	sort.Slice(hs, func(i, j int) bool { return hs[i].Boot < hs[j].Boot })
	return hs
}

// HostOf is the host info of a live boot.
func (m *Mesh) HostOf(boot string) (runtime.HostInfo, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.hosts[boot]
	return h, ok
}
