package runtime

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A world is what a scenario plays in: the partitions of a mesh with their
// logs, a clock, and names for requests.
type world struct {
	t            *testing.T
	cfg          Config
	parts        []*worldPart
	now          Now
	ids          map[string]ID
	names        map[ID]string
	made         int
	infos        map[string]HostInfo
	ends         map[string][]Deactivate // that a host was asked for, by boot and actor
	silent       map[string]bool
	held         bool     // messages between partitions wait
	deaf         int      // messages to this partition are lost; -1 for none
	queue        []posted // messages between partitions
	keep         int      // records of the next round that survive, -1 for all and no crash
	out          strings.Builder
	quiet        bool
	kill         int // the owner dies when the logs of the mesh hold this many records; 0 for never
	kinds        []uint64
	silentWindow bool             // owners do not say how long they remember
	lean         bool             // no body stays in memory
	count        bool             // each step is followed by a recount
	whole        *strings.Builder // all that is decided, see TestWhole
	effects      []string
}

type worldPart struct {
	n       uint16
	core    *Core
	log     [][]byte
	full    [][]byte // never trimmed
	store   map[string][]byte
	applied uint64
	cut     uint64
	cutAt   int
}

type posted struct {
	to   uint16
	in   Input
	text string
}

func newWorld(t *testing.T) *world {
	w := &world{
		deaf: -1,
		t:    t, now: Now{Wall: 1767225600000, Mono: 1_000_000}, keep: -1,
		cfg: Config{Mesh: "test", Partitions: 1, Lease: 6000, IDWindow: 600_000, ResultRetention: 86_400_000},
		ids: map[string]ID{}, names: map[ID]string{}, infos: map[string]HostInfo{}, ends: map[string][]Deactivate{}, silent: map[string]bool{},
	}
	w.setPartitions(1)
	return w
}

func (w *world) setPartitions(n int) {
	w.cfg.Partitions, w.parts = n, nil
	for i := range n {
		p := &worldPart{n: uint16(i), store: map[string][]byte{}}
		w.parts = append(w.parts, p)
		w.open(p, 1)
	}
}

// open makes a new owner for the partition from its log.
func (w *world) open(p *worldPart, term int) {
	cfg := w.cfg
	cfg.Partition, cfg.Node = p.n, fmt.Sprintf("g%d", term)
	c := New(cfg)
	if w.lean {
		c.load.least = 1
	}
	fold := func(b []byte) {
		if _, err := c.Fold(b); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, b := range p.log {
		w.shed(c)
		fold(b)
	}
	claim := c.Claim(w.now)
	if w.silentWindow {
		r, err := DecodeRecord(claim)
		if err != nil {
			w.t.Fatal(err)
		}
		r.Body.(*claimed).window, r.Body.(*claimed).youngest = 0, 0
		claim = EncodeRecord(r)
	}
	p.log, p.full = append(p.log, claim), append(p.full, claim)
	fold(claim)
	for _, ch := range c.TakeChanges() {
		p.change(ch)
	}
	if !c.Own(w.now, p.applied) {
		w.t.Fatal("not owned")
	}
	p.core = c
	w.finish(p, "")
}

func (p *worldPart) change(ch StoreChange) {
	if ch.Seq <= p.applied {
		return
	}
	for _, m := range ch.Writes {
		switch {
		case m.Prefix:
			for k := range p.store {
				if strings.HasPrefix(k, string(m.Key)) {
					delete(p.store, k)
				}
			}
		case m.Value == nil:
			delete(p.store, string(m.Key))
		default:
			p.store[string(m.Key)] = m.Value
		}
	}
	p.applied = ch.Seq
}

func (p *worldPart) view(gen uint64) *View {
	v := &View{Applied: p.core.Seq(), Generation: gen, Entries: map[string][]byte{}}
	for k, b := range p.store {
		v.Entries[k] = b
	}
	return v
}

// step decides an input, makes the round durable and shows it.
func (w *world) step(n uint16, in Input) {
	p := w.parts[n]
	p.core.Step(w.now, in)
	w.finish(p, w.mark(n))
	w.pump()
}

func (w *world) mark(n uint16) string {
	if len(w.parts) == 1 {
		return ""
	}
	return "p" + strconv.Itoa(int(n)) + " "
}

func (w *world) finish(p *worldPart, mark string) {
	if !w.count {
	} else if bad := recounted(p.core); bad != nil {
		w.t.Fatalf("p%d does not agree with itself:\n%s\nafter\n%s", p.n, w.withNames(strings.Join(bad, "\n")), w.out.String())
	}
	w.shed(p.core)
	records, effects := p.core.Take()
	crash := w.keep >= 0
	if crash {
		records, effects = records[:min(w.keep, len(records))], nil
		w.keep = -1
	}
	if n := w.kill - len(w.kinds); w.kill > 0 && n >= 0 && n <= len(records) {
		crash, w.kill = true, 0
		records, effects = records[:n], nil
	}
	for _, b := range records {
		p.log, p.full = append(p.log, b), append(p.full, b)
		r, err := DecodeRecord(b)
		if err != nil {
			w.t.Fatal(err)
		}
		w.kinds = append(w.kinds, kindOf(r.Body))
		if b, is := r.Body.(*started); is && toEnd(p.core, b.id) {
			w.t.Errorf("%s%s, which is to end", mark, w.recordText(r))
		}
		w.wholly(mark, r, nil)
		if !w.quiet {
			w.say("+ %s%s", mark, w.recordText(r))
		}
	}
	if crash {
		w.say("  (crash)")
		w.open(p, int(p.core.Epoch()+1))
		return
	}
	for _, ch := range p.core.TakeChanges() {
		p.change(ch)
		if w.whole != nil && !w.quiet {
			fmt.Fprintf(w.whole, "* %s%s\n", mark, whole(reflect.ValueOf(ch)))
		}
	}
	for i := range effects {
		w.wholly(mark, nil, &effects[i])
	}
	for i := range effects {
		w.carry(p, &effects[i], mark)
	}
}

// toEnd tells a request that was cancelled and is open here still. What runs when it is
// cancelled has begun in a round before.
func toEnd(c *Core, id ID) bool {
	e, h := c.entries[id], c.homes[id]
	return e != nil && (e.cancelled || c.wishes[id] != nil || h != nil && h.cancelled)
}

func (w *world) shed(c *Core) {
	if w.lean {
		c.Shed(1 << 40)
	}
}

func (w *world) pump() {
	for len(w.queue) > 0 && !w.held {
		m := w.queue[0]
		w.queue = w.queue[1:]
		w.say("  %s", m.text)
		p := w.parts[m.to]
		p.core.Step(w.now, m.in)
		w.finish(p, w.mark(m.to))
	}
}

func (w *world) carry(p *worldPart, e *Effect, mark string) {
	switch e.Kind {
	case ToPartition:
		if int(e.Partition) == w.deaf {
			return
		}
		if w.held && e.N <= w.parts[e.Partition].core.in[p.n]+uint64(len(w.queue)) {
			return // sent again while it waits
		}
		w.queue = append(w.queue, posted{e.Partition, &Deliver{From: p.n, N: e.N, Payload: e.Payload}, fmt.Sprintf("p%d → p%d message %d", p.n, e.Partition, e.N)})
	case AckPartition:
		if !w.held {
			w.parts[e.Partition].core.Step(w.now, &Acked{Partition: p.n, N: e.N})
			w.finish(w.parts[e.Partition], w.mark(e.Partition))
		}
	case ToOwner:
		switch in := e.Value.(type) {
		case *FenceAsk:
			w.queue = append(w.queue, posted{e.Partition, in, fmt.Sprintf("p%d asks p%d for a fence below %d", p.n, e.Partition, in.Epoch)})
			return
		case *FenceAnswered:
			w.queue = append(w.queue, posted{e.Partition, in, fmt.Sprintf("p%d answers p%d, %d open", p.n, e.Partition, len(in.Pending))})
			return
		}
		if int(e.Partition) == w.deaf {
			return
		}
		in := e.Value.(Input)
		w.queue = append(w.queue, posted{e.Partition, in, fmt.Sprintf("p%d → p%d %T", p.n, e.Partition, in)})
	case NeedBody:
		in := &BodyRead{ID: e.ID, At: e.N}
		for _, b := range p.log {
			if body, found := BodyIn(b, e.ID, e.N); found {
				in.Body, in.Found = body, true
			}
		}
		p.core.Step(w.now, in)
		w.finish(p, mark)
	case GroupsChanged, ServicesChanged, GenerationChanged:
	default:
		if m, ok := e.Msg.(*Deactivate); ok {
			key := e.Boot + " " + actorText(m.Actor)
			w.ends[key] = append(w.ends[key], *m)
		}
		w.say("= %s%s", mark, w.effectText(e))
	}
}

func (w *world) say(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

// name gives ids that the rules made themselves names in order of appearance.
func (w *world) name(id ID) string {
	if id.IsZero() {
		return "-"
	}
	if n, ok := w.names[id]; ok {
		return n
	}
	w.made++
	n := fmt.Sprintf("m%d", w.made)
	w.names[id], w.ids[n] = n, id
	return n
}

func (w *world) newID(name string, t Target, key string) ID {
	var rnd [6]byte
	copy(rnd[:], name)
	id := NewID(w.now.Wall, 0, t.App, rnd)
	id = NewID(w.now.Wall, PartitionOf(t, key, id, w.cfg.Partitions), t.App, rnd)
	w.ids[name], w.names[id] = id, name
	return id
}

// change is the id under which a change of an app is asked for, and asked again: id=NAME.
func (w *world) change(ws words, p uint16) (id ID) {
	name := ws.opts["id"]
	if name == "" {
		return ID{}
	}
	key := fmt.Sprint(name, " in p", p)
	id, ok := w.ids[key]
	if !ok {
		id = NewID(w.now.Wall, p, "dp", [6]byte([]byte(name+"......")))
		w.ids[key], w.names[id] = id, name
	}
	return id
}

// advance lets time pass in steps of at most 200 ms; hosts that are not silent beat.
func (w *world) advance(d time.Duration) {
	for left := d.Milliseconds(); left > 0; {
		n := min(left, 200)
		left -= n
		w.now.Wall, w.now.Mono = w.now.Wall+n, w.now.Mono+n
		for _, p := range w.parts {
			for _, b := range sortedKeys(w.infos) {
				if !w.silent[b] {
					p.core.Step(w.now, &HostsBeat{Boots: []string{b}})
				}
			}
			w.step(p.n, &Tick{})
		}
	}
}

// trim keeps what is live, cuts the log, and checks that both logs tell the same.
func (w *world) trim(p *worldPart, leave int) {
	w.beginTrim(p)
	w.endTrim(p, leave)
}

func (w *world) beginTrim(p *worldPart) {
	w.quiet = true
	p.core.Step(w.now, &Mark{})
	p.cut, p.cutAt = p.core.Seq(), len(p.log)+p.core.Pending()-1
	w.finish(p, "")
	w.quiet = false
}

func (w *world) endTrim(p *worldPart, leave int) {
	w.quiet = true
	cut, at := p.cut, p.cutAt
	for p.core.OldestLive() < cut {
		p.core.Step(w.now, &Keep{Before: cut, Limit: 3})
		w.finish(p, "")
	}
	w.quiet = false
	p.log = append([][]byte(nil), p.log[max(at-leave, 0):]...)
	a, b := w.fold(p, p.full), w.fold(p, p.log)
	if a != b {
		w.t.Errorf("the trimmed log tells otherwise: %s", firstDifference(a, b))
	}
	w.say("  (log of %d cut to %d records)", len(p.full), len(p.log))
}

func (w *world) fold(p *worldPart, log [][]byte) string { return w.foldCore(p, log).Describe() }

func (w *world) foldCore(p *worldPart, log [][]byte) *Core {
	cfg := w.cfg
	cfg.Partition = p.n
	c := New(cfg)
	for _, b := range log {
		if _, err := c.Fold(b); err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

// describe is Describe with the names of the scenario.
func (w *world) describe(p *worldPart) {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(p.core.Describe()), "\n") {
		lines = append(lines, w.withNames(line))
	}
	sort.Strings(lines)
	for _, l := range lines {
		if l != "" {
			w.say("  %s%s", w.mark(p.n), l)
		}
	}
}

func (w *world) withNames(s string) string {
	for id, n := range w.names {
		s = strings.ReplaceAll(s, id.String(), n)
	}
	return s
}
