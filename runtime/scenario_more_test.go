package runtime

import (
	"slices"
	"strings"
)

func (w *world) otherCommand(ws words, line string) {
	id := w.ids[ws.at(1)]
	home := id.Partition()
	switch ws.at(0) {
	case "await":
		w.step(home, &Await{App: "dp", ID: id, Boot: ws.opts["from"], Waiter: "await-" + ws.at(1), View: w.parts[home].view(0)})
	case "watch": // as another partition asks
		w.step(home, &Await{ID: id, Waiter: "watch-" + ws.at(1)})
	case "took":
		app := ws.opts["app"]
		if app == "" {
			app = "dp"
		}
		w.step(home, &Release{App: app, IDs: []ID{id}})
	case "closed": // closed CHILD PARENT: the child in another partition has ended
		parent := w.ids[ws.at(2)]
		for _, p := range w.parts {
			if p.core.entries[parent] != nil {
				w.step(p.n, &ChildClosed{Parents: []ID{parent}, Child: id})
			}
		}
	case "cancel":
		w.step(home, &Cancel{App: "dp", ID: id, Change: w.change(ws, home), Waiter: "cancel"})
	case "cancelall":
		for _, p := range w.parts {
			w.step(p.n, &CancelAll{App: ws.at(1), ID: w.change(ws, p.n), Waiter: "cancelall"})
		}
	case "drain":
		for _, p := range w.parts {
			w.step(p.n, &Drain{App: ws.at(1), ID: w.change(ws, p.n), Waiter: "drain"})
		}
	case "service": // service APP NAME [URL]
		p := AppPartition(ws.at(1), len(w.parts))
		w.step(p, &SetService{App: ws.at(1), Name: ws.at(2), URL: ws.at(3), Timeout: 1000, ID: w.change(ws, p), Waiter: "service"})
	case "prove":
		for _, p := range w.parts {
			w.step(p.n, &Prove{})
		}
	case "level": // gateways know levels up to N from now on, 0 for all
		w.cfg.Level = int(w.num(ws.at(1)))
		if w.cfg.Level != 0 { // also those that begin the log
			w.setPartitions(w.cfg.Partitions)
		}
	case "raise":
		for _, p := range w.parts {
			w.step(p.n, &RaiseLevel{Level})
		}
	case "purge":
		p := AppPartition(ws.at(1), len(w.parts))
		w.step(p, &Purge{App: ws.at(1), ID: w.change(ws, p), Waiter: "purge"})
	case "state":
		w.stateCommand(ws)
	case "reminder":
		a := target(ws.at(1)).Actor()
		r := Reminder{Actor: a, ID: ws.at(2), Path: ws.at(3), Due: w.now.Wall + w.num(ws.opts["in"]), Period: w.num(ws.opts["period"]) * 1_000_000, CatchUp: ws.has("catchup")}
		if d := ws.opts["at"]; d != "" {
			r.Due = w.num(d)
		}
		w.step(ActorPartition(a, len(w.parts)), &SetReminder{Reminder: r, Boot: ws.opts["from"], Waiter: "reminder"})
	case "unremind":
		a := target(ws.at(1)).Actor()
		in := &CancelReminders{Actor: a, ID: ws.at(2), Boot: ws.opts["from"], Waiter: "unremind"}
		if of := ws.opts["session"]; of != "" {
			in.Session = w.session(of)
		}
		if name := ws.opts["as"]; name != "" {
			var ok bool
			if in.Request, ok = w.ids[name]; !ok {
				in.Request = w.newID(name, target(ws.at(1)), "")
			}
		}
		w.step(ActorPartition(a, len(w.parts)), in)
	case "subscribe":
		a := target(ws.at(1)).Actor()
		s := Subscription{Actor: a, ID: ws.at(2), Path: ws.at(3), Topic: ws.opts["topic"], Group: ws.opts["group"], Next: w.num(ws.opts["next"])}
		w.step(ActorPartition(a, len(w.parts)), &Subscribe{Subscription: s, Boot: ws.opts["from"], Waiter: "subscribe"})
	case "unsubscribe":
		a := target(ws.at(1)).Actor()
		w.step(ActorPartition(a, len(w.parts)), &Unsubscribe{Actor: a, ID: ws.at(2), Boot: ws.opts["from"], Waiter: "unsubscribe"})
	case "event": // event OFFSET BODY…: to every group of the mesh
		for _, p := range w.parts {
			for _, g := range p.core.groupCursors("", 0) {
				ev := Event{Offset: w.num(ws.at(1)), Body: []byte(strings.Join(ws.plain[2:], " "))}
				w.step(p.n, &DeliverEvents{Group: g.Key, Events: []Event{ev}, Waiter: "pump"})
			}
		}
	case "stale": // stale TERM: a deposed owner writes its round late
		p := w.parts[0]
		r := EncodeRecord(&Record{Epoch: uint64(w.num(ws.at(1))), Owner: p.core.owner + 1, Seq: p.core.seq + 1, Body: &hostLost{boot: "h1"}})
		p.log, p.full = append(p.log, r), append(p.full, r)
		w.say("  (void record in the log)")
	case "twice": // the last N records land again
		p, n := w.parts[0], int(w.num(ws.at(1)))
		p.log = append(p.log, slices.Clone(p.log[len(p.log)-n:])...)
		p.full = append(p.full, slices.Clone(p.full[len(p.full)-n:])...)
		w.say("  (%d records land again)", n)
	default:
		w.t.Fatalf("unknown command %q", line)
	}
}

func (w *world) stateCommand(ws words) {
	a := target(ws.at(2)).Actor()
	p := w.parts[ActorPartition(a, len(w.parts))]
	op := StateOp{Actor: a, Key: ws.at(3), Boot: ws.opts["from"]}
	if key, sub, ok := strings.Cut(op.Key, "."); ok {
		op.Key, op.Sub, op.InMap = key, sub, true
	}
	switch ws.at(1) {
	case "set":
		op.Verb, op.Value = StateSet, []byte(ws.at(4))
	case "get":
		op.Verb = StateGet
	case "all":
		op.Verb = StateAll
	case "clear":
		op.Verb = StateClear
	case "delete":
		op.Verb = StateDelete
	case "map":
		op.Verb = StateMap
	case "mapclear":
		op.Verb = StateMapClear
	}
	w.step(p.n, &StateInput{Op: op, View: p.view(p.core.generation(a.App)), Waiter: "state"})
}
