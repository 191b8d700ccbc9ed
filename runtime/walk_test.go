package runtime

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestWalk plays commands of all kinds in an order that nobody would think of:
// hosts come, freeze and go, owners crash in the middle of a round, logs are cut.
// After each step all counts are made anew (see recount), a cut log must tell what
// the whole one does, and in the end nothing may be left. testdata/walk has a hash
// of all that was decided in each part, so that a rule cannot change unseen; when
// it was to change, -update writes it anew.
func TestWalk(t *testing.T) {
	var got strings.Builder
	for seed := range walks {
		walk(t, uint64(seed), &got)
	}
	if *update {
		if err := os.WriteFile("testdata/walk", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("testdata/walk")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Error("the rules decide otherwise than they did (-update writes it anew):", firstDifference(string(want), got.String()))
	}
}

const (
	walks    = 8
	walkLen  = 400
	walkPart = 50 // commands for each hash
)

// A walker chooses commands.
type walker struct {
	*world
	rnd   *rand.Rand
	boots []string // that are attached
	asked int      // requests
	event int
}

func walk(t *testing.T, seed uint64, hashes *strings.Builder) {
	w := newWorld(t)
	w.whole, w.effects = &strings.Builder{}, effectNames(t)
	w.count = true
	x := &walker{world: w, rnd: rand.New(rand.NewPCG(seed, 1))}
	switch seed {
	case 5: // bodies are in the log only
		w.lean = true
	case 6: // a log that older gateways read, for a while
		w.cfg.Level = 1
	case 7:
		w.cfg.WorkBytes, w.cfg.HostBytes, w.cfg.OutcomeBytes, w.cfg.RecordLimit = 60_000, 3000, 2000, 6000
	}
	x.play(fmt.Sprintf("partitions %d", 1+seed%3))
	if seed%2 == 1 {
		x.play("config attempts=6 mailbox=5 host=3")
	}
	known := map[string]string{}
	for n := range walkLen {
		if seed == 6 && n == walkLen/2 {
			w.cfg.Level = 0
			x.play("restart")
			x.play("raise")
		}
		x.play(x.next(n))
		w.tellKnown(known)
		if n%walkPart == walkPart-1 {
			h := fnv.New64a()
			_, _ = h.Write([]byte(w.withNames(w.whole.String())))
			fmt.Fprintf(hashes, "walk %d, commands up to %d: %x\n", seed, n+1, h.Sum64())
			w.whole.Reset()
		}
	}
	x.ends()
}

func (x *walker) play(command string) {
	x.out.Reset()
	if os.Getenv("KAR_WALK") != "" {
		fmt.Println(">", command)
	}
	fmt.Fprintf(x.whole, "> %s\n", command)
	if !x.input(parseWords(command)) {
		x.command(command)
	}
}

// input plays what scenarios have no word for.
func (x *walker) input(ws words) bool {
	a := target(ws.at(1)).Actor()
	n := ActorPartition(a, len(x.parts))
	p := x.parts[n]
	id := x.ids[ws.at(1)]
	repeat := NewID(x.now.Wall/100_000*100_000, n, a.App, [6]byte{byte(len(ws.at(2)))}) // the same for a while
	switch ws.at(0) {
	case "applied":
		for _, p := range x.parts {
			x.step(p.n, &StoreApplied{Seq: p.core.Seq() - min(p.core.Seq(), uint64(x.num(ws.at(1))))})
		}
	case "leave":
		x.step(id.Partition(), &Leave{ID: id, Waiter: ws.at(1)})
	case "publish":
		id := NewID(x.now.Wall/10_000*10_000, 0, "dp", [6]byte{byte(x.num(ws.at(1)))})
		x.step(0, &Publish{App: "dp", ID: id, Boot: ws.opts["from"], Waiter: "publish"})
	case "published":
		id := NewID(x.now.Wall/10_000*10_000, 0, "dp", [6]byte{byte(x.num(ws.at(1)))})
		in := &Published{ID: id}
		if ws.has("not") {
			in.Err = Errorf(CodeTopicMissing, "there is none")
		}
		x.step(0, in)
	case "update":
		op := StateOp{Actor: a, Verb: StateUpdate, Sets: []Field{{Key: "k", Value: []byte(ws.at(2))}, {Key: "m", Sub: "a", InMap: true}}, Removes: []Field{{Key: "l"}, {Key: "m", Sub: "b", InMap: true}}, ID: repeat}
		x.step(n, &StateInput{Op: op, View: p.view(p.core.generation(a.App)), Waiter: "state"})
	case "old-view":
		v := p.view(p.core.generation(a.App))
		v.Applied = uint64(x.num(ws.at(2)))
		x.step(n, &StateInput{Op: StateOp{Actor: a, Verb: StateGet, Key: "k"}, View: v, Waiter: "state"})
		x.step(n, &StateInput{Op: StateOp{Actor: a, Verb: StateGet, Key: "k"}, Waiter: "state"})
	case "remind-again":
		x.step(n, &SetReminder{Reminder: Reminder{Actor: a, ID: "z", Path: "/z", Due: x.now.Wall + 700}, ID: repeat, Waiter: "reminder"})
	case "unremind-again":
		x.step(n, &CancelReminders{Actor: a, ID: "z", Request: repeat, Waiter: "unremind"})
	case "subscribe-again":
		x.step(n, &Subscribe{Subscription: Subscription{Actor: a, ID: "w", Path: "/w", Topic: "t", Group: ws.opts["group"]}, ID: repeat, Waiter: "subscribe"})
	case "unsubscribe-again":
		x.step(n, &Unsubscribe{Actor: a, ID: "w", Request: repeat, Waiter: "unsubscribe"})
	case "copies": // an event that is in its topic twice, and one of an earlier life
		from := NewID(x.now.Wall/50_000*50_000, 0, "dp", [6]byte{3})
		for _, p := range x.parts {
			for _, g := range p.core.groupCursors("", 0) {
				var events []Event
				for i := range int64(3) {
					events = append(events, PublishedAs(from, g.Topic, Event{Offset: g.Next - 1 + i, Body: []byte("copy")}))
				}
				x.step(p.n, &DeliverEvents{Group: g.Key, Events: events, Waiter: "pump"})
				x.step(p.n, &DeliverEvents{Group: g.Key, From: g.Next + 9, Events: events, Waiter: "pump"})
			}
			x.step(p.n, &DeliverEvents{Group: "none", Events: []Event{{}}, Waiter: "pump"})
		}
	case "beat":
		x.step(n, &HostsBeat{Boots: append([]string{"nobody"}, x.boots...), Waiter: "beat"})
	default:
		return false
	}
	return true
}

func (x *walker) more(n int) string {
	switch c := x.rnd.IntN(15); {
	case c < 1:
		return "applied " + x.one("0", "3", "20")
	case c < 3:
		return "leave " + x.any()
	case c < 5:
		return x.one("publish 1", "publish 1", "publish 2", "published 1", "published 1 not", "published 2", "publish 1 from="+x.boot())
	case c < 7:
		return fmt.Sprintf("update %s v%d", x.actor(), n)
	case c < 8:
		return fmt.Sprintf("old-view %s %d", x.actor(), x.rnd.IntN(200))
	case c < 9:
		return x.one("remind-again ", "remind-again ", "unremind-again ") + x.actor()
	case c < 12:
		return x.one("subscribe-again ", "subscribe-again ", "unsubscribe-again ") + x.actor() + x.one("", " group=g")
	case c < 14:
		return "copies"
	}
	return "beat"
}

func (x *walker) one(of ...string) string { return of[x.rnd.IntN(len(of))] }

func (x *walker) may(percent int) bool { return x.rnd.IntN(100) < percent }

func (x *walker) actor() string { return x.one("A/1", "A/2", "A/3", "B/1", "B/2", "o:A/1") }

func (x *walker) target() string {
	if x.may(30) {
		return x.one("s", "s", "o:s")
	}
	return x.actor()
}

// some is one of the requests that are open in a phase, "" when there is none.
func (x *walker) some(phases ...phase) string {
	var names []string
	for name, id := range x.ids {
		for _, p := range x.parts {
			if e := p.core.entries[id]; e != nil && slices.Contains(phases, e.phase) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return ""
	}
	return x.one(names...)
}

// any is a request that was ever made.
func (x *walker) any() string {
	if x.asked == 0 {
		return "r0"
	}
	return fmt.Sprint("r", max(1, x.asked-x.rnd.IntN(12)))
}

func (x *walker) boot() string {
	if len(x.boots) == 0 {
		return "h0"
	}
	return x.one(x.boots...)
}

func (x *walker) submit() string {
	x.asked++
	name := fmt.Sprint("r", x.asked)
	if x.may(6) && x.asked > 1 {
		x.asked--
		name = x.any() // again
	}
	to := x.target()
	kind := x.one("call", "call", "call", "promise", "tell", "tell", "remove")
	if kind == "remove" {
		to = x.actor()
	}
	s := fmt.Sprintf("%s %s %s /m", kind, name, to)
	if x.may(15) {
		s += x.one(" key=k1", " key=k2", " key=k3")
	}
	if x.may(10) {
		s += x.one(" nohost=1s", " busy=2s", " nohost=500 busy=700")
	}
	if x.may(12) {
		s += x.one(" deadline=1s", " deadline=3s", " deadline=20s")
	}
	if x.may(8) {
		s += x.one(" delay=1s", " delay=5s")
	}
	if x.may(10) {
		s += " body=" + strings.Repeat("b", x.rnd.IntN(2000))
	}
	if r := x.some(running); r != "" && x.may(35) {
		s += " session=" + r
		for _, p := range x.parts {
			if e := p.core.entries[x.ids[r]]; e != nil && e.phase == running && x.may(80) {
				s += " from=" + e.host
			}
		}
	} else if x.may(15) {
		s += " from=" + x.boot()
	}
	if x.may(15) {
		s += " cancel"
	}
	return s
}

func (x *walker) answer() string {
	r := x.some(running, running, stopped)
	if r == "" {
		return x.submit()
	}
	s := "answer " + r + " "
	switch n := x.rnd.IntN(20); {
	case n < 8:
		return s + `200 "ok"`
	case n < 9:
		return s + "500 no"
	case n < 10:
		return s + `200 {"error":true,"message":"x"}`
	case n < 11:
		return s + "200 size=3500"
	case n < 15:
		return s + "lost"
	case n < 16:
		return s + "refused 404"
	case n < 19:
		t := strings.TrimPrefix(x.target(), "o:")
		s += "tailcall " + t + " /next"
		if x.may(30) {
			s += " release"
		}
		return s
	}
	return s + "200 late attempt=0.1"
}

func (x *walker) host(n int) string {
	switch c := x.rnd.IntN(12); {
	case c < 5 && len(x.boots) < 4:
		b := fmt.Sprint("h", n)
		x.boots = append(x.boots, b)
		s := "host " + b
		if x.may(15) {
			s += " app=o"
		}
		return s + x.one(" service=s", " actors=A,B", " actors=A,B service=s", " actors=A", " actors=A,B service=s idle=3s")
	case c < 6:
		return "unlink " + x.boot()
	case c < 8:
		b := x.boot()
		if x.infos[b].Boot == "" {
			return "prove"
		}
		s := "join " + b
		var runs, ends, holds []string
		for _, p := range x.parts {
			h := p.core.hosts[b]
			if h == nil {
				continue
			}
			for _, id := range sortedIDs(h.running) {
				if e := h.running[id]; x.may(70) {
					at := fmt.Sprintf("%s#%d.%d", x.name(id), e.step, e.attempt)
					if x.may(70) {
						runs = append(runs, at)
					} else if x.may(50) {
						ends = append(ends, at)
					} else {
						ends = append(ends, at+"@done")
					}
				}
			}
			for _, a := range h.placed {
				if x.may(80) {
					holds = append(holds, a.actor.App+":"+a.actor.Type+"/"+a.actor.ID)
				}
			}
		}
		if len(runs) > 0 {
			s += " running=" + strings.Join(runs, ",")
		}
		if len(ends) > 0 {
			s += " finished=" + strings.Join(ends, ",")
		}
		if x.may(10) {
			holds = append(holds, "A/9")
		}
		if len(holds) > 0 {
			s += " instances=" + strings.Join(holds, ",")
		}
		return s
	case c < 9:
		if len(x.boots) == 0 {
			return "prove"
		}
		i := x.rnd.IntN(len(x.boots))
		b := x.boots[i]
		x.boots = slices.Delete(x.boots, i, i+1)
		return "down " + b
	case c < 11:
		b := x.boot()
		if x.infos[b].Boot == "" {
			return "prove"
		}
		return x.one("draining ", "frozen ", "thawed ", "thawed ") + b
	}
	for _, p := range x.parts {
		for _, a := range sortedActors(p.core.actors) {
			if y := p.core.actors[a]; y.asking > 0 {
				return fmt.Sprintf("deactivated %s %s:%s/%s", y.host, a.App, a.Type, a.ID)
			}
		}
	}
	return "silence " + x.boot()
}

func (x *walker) next(n int) string {
	switch c := x.rnd.IntN(100); {
	case x.may(12):
		return x.more(n)
	case c < 24:
		return x.submit()
	case c < 46:
		return x.answer()
	case c < 60:
		return x.host(n)
	case c < 68:
		return "advance " + x.one("200ms", "400ms", "1s", "3s", "8s")
	case c < 72:
		return "state " + x.one("set", "set", "get", "all", "clear", "delete", "map", "mapclear") + " " + x.actor() + " " + x.one("k", "l", "m.a", "m.b") + " v" + fmt.Sprint(n)
	case c < 76:
		s := fmt.Sprintf("reminder %s %s /tick in=%s", x.actor(), x.one("x", "y"), x.one("1s", "100", "-5s"))
		if x.may(60) {
			s += x.one(" period=1s", " period=300", " period=2s")
		}
		if x.may(30) {
			s += " catchup"
		}
		return s
	case c < 77:
		return fmt.Sprintf("unremind %s %s", x.actor(), x.one("x", "y", ""))
	case c < 80:
		s := fmt.Sprintf("subscribe %s %s /on topic=%s", x.actor(), x.one("u", "v"), x.one("t", "t2"))
		if x.may(60) {
			s += " group=g"
		}
		return s
	case c < 81:
		return fmt.Sprintf("unsubscribe %s %s", x.actor(), x.one("u", "v", ""))
	case c < 84:
		x.event++
		return fmt.Sprintf("event %d %d", x.event, n)
	case c < 86:
		return "await " + x.any()
	case c < 88:
		return "took " + x.any()
	case c < 91:
		return "cancel " + x.any()
	case c < 92:
		return x.one("cancelall dp", "drain dp", "drain o", "purge dp", "purge o", "purge dp")
	case c < 93:
		return fmt.Sprintf("service dp s%d %s", x.rnd.IntN(2), x.one("http://a", "http://b", ""))
	case c < 95:
		return "restart"
	case c < 97:
		return fmt.Sprintf("crash %d %s", x.rnd.IntN(3), x.submit())
	case c < 98:
		if x.held {
			return "release"
		}
		return x.one("hold", "release")
	case c < 99:
		return "trim leave=" + fmt.Sprint(x.rnd.IntN(3))
	}
	return x.one("jump 10s", "clock 5s", "clock -5s", "prove", "release")
}

// ends lets everything end, and finds nothing.
func (x *walker) ends() {
	x.play("release")
	for _, b := range slices.Clone(x.boots) {
		x.play("down " + b)
	}
	for _, app := range []string{"dp", "o"} {
		x.play("cancelall " + app)
		x.play("purge " + app)
		for _, s := range []string{"s0", "s1"} {
			x.play("service " + app + " " + s + " ")
		}
	}
	x.play("advance 30s")
	for range 9 {
		x.play("jump 24h")
		for _, p := range x.parts {
			x.step(p.n, &StoreApplied{Seq: p.core.Seq()})
		}
		x.play("advance 5s")
	}
	for _, p := range x.parts {
		c := p.core
		for what, n := range map[string]int{
			"requests": len(c.entries), "chains away": len(c.homes), "outcomes": len(c.endings), "ended ids": c.ended.count, "keys": len(c.keys),
			"flows": len(c.flows), "actors": len(c.actors), "haunted actors": len(c.haunted), "zombies": len(c.ghosts), "calls to withdraw": len(c.cancels),
			"parkings": len(c.parked), "hosts": len(c.hosts), "offers": len(c.offers), "lost hosts": len(c.lost), "reminders": len(c.reminders),
			"firings": len(c.firings), "unfinished firings": len(c.fired), "borrowings": len(c.borrowings) + len(c.borrowers), "calls from elsewhere": seats(c.abroad), "subscriptions": len(c.subs), "groups": len(c.groups), "tells": len(c.tells), "wishes": len(c.wishes),
			"pasts": len(c.pasts), "changes": len(c.view.recent), "values": len(c.view.groups), "timers": len(c.timers.items), "wall timers": len(c.walls.items),
			"inquiries": len(c.inquiries), "drains": len(c.drained), "purges": len(c.purges), "withdrawals": len(c.withdrawals), "fences": len(c.fenceWait),
			"blocked pumps": len(c.blocked), "reviews": len(c.reviews), "hosts to go through": len(c.losing), "outcomes' bytes": c.endSize,
			"bytes": int(c.load.held), "bodies": c.load.bodied, "bytes for the store": int(c.view.ahead),
		} {
			if n != 0 {
				x.t.Errorf("%s%d %s are left", x.mark(p.n), n, what)
			}
		}
		for to, o := range c.out {
			if len(o.pending) != 0 {
				x.t.Errorf("%s%d messages for p%d are left", x.mark(p.n), len(o.pending), to)
			}
		}
	}
}

func seats(rolls map[uint16]*roll) (n int) {
	for _, r := range rolls {
		for s := r.first; s != nil; s = s.next {
			n++
		}
	}
	return n
}
