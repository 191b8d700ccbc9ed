package runtime

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// words of a command: plain ones in order, and key=value options.
type words struct {
	plain []string
	opts  map[string]string
}

func parseWords(line string) words {
	ws := words{opts: map[string]string{}}
	for f := range strings.FieldsSeq(line) {
		if k, v, ok := strings.Cut(f, "="); ok && !strings.HasPrefix(f, "{") && !strings.HasPrefix(f, "/") {
			ws.opts[k] = v
		} else {
			ws.plain = append(ws.plain, f)
		}
	}
	return ws
}

func (ws words) at(i int) string {
	if i < len(ws.plain) {
		return ws.plain[i]
	}
	return ""
}

func (ws words) has(s string) bool { return slices.Contains(ws.plain, s) }

func (w *world) num(s string) int64 {
	if s == "" {
		return 0
	}
	if d, err := time.ParseDuration(s); err == nil {
		return d.Milliseconds()
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		w.t.Fatalf("%q is no number", s)
	}
	return n
}

func target(s string) Target {
	app := "dp"
	if a, rest, ok := strings.Cut(s, ":"); ok {
		app, s = a, rest
	}
	if typ, id, ok := strings.Cut(s, "/"); ok {
		return Target{App: app, Type: typ, ID: id}
	}
	return Target{App: app, Service: s}
}

func (w *world) command(line string) {
	ws := parseWords(line)
	switch ws.at(0) {
	case "partitions":
		w.setPartitions(int(w.num(ws.at(1))))
	case "config":
		w.cfg.MaxAttempts = int(w.num(ws.opts["attempts"]))
		if b := ws.opts["record"]; b != "" {
			w.cfg.RecordLimit = int(w.num(b))
		}
		w.cfg.MailboxLimit, w.cfg.HostLimit = int(w.num(ws.opts["mailbox"])), int(w.num(ws.opts["host"]))
		w.setPartitions(w.cfg.Partitions)
	case "made": // made NAME TARGET: its id is made, and it is on its way
		w.newID(ws.at(1), target(ws.at(2)), "")
	case "window": // the id window of owners from now on, which do not say it when it is silent
		w.cfg.IDWindow, w.silentWindow = w.num(ws.at(1)), ws.has("silent")
	case "crash": // crash N COMMAND: the first N records of its round survive, no effect does
		w.keep = int(w.num(ws.at(1)))
		w.command(strings.SplitN(line, " ", 3)[2])
		w.pump()
	case "restart":
		for _, p := range w.parts {
			w.open(p, int(p.core.Epoch()+1))
		}
		w.pump()
	case "trim":
		for _, p := range w.parts {
			w.trim(p, int(w.num(ws.opts["leave"])))
		}
	case "mark": // the next cut is here
		for _, p := range w.parts {
			w.beginTrim(p)
		}
	case "cut":
		for _, p := range w.parts {
			w.endTrim(p, int(w.num(ws.opts["leave"])))
		}
	case "deaf": // deaf N COMMAND: partition N hears nothing of it from the others
		w.deaf = int(w.num(ws.at(1)))
		w.command(strings.SplitN(line, " ", 3)[2])
		w.pump()
		w.deaf = -1
	case "hold":
		w.held = true
	case "release":
		w.held = false
		w.pump()
	case "advance":
		d, err := time.ParseDuration(ws.at(1))
		if err != nil {
			w.t.Fatal(err)
		}
		w.advance(d)
	case "jump": // the whole mesh was off
		w.now.Wall += w.num(ws.at(1))
		w.now.Mono += w.num(ws.at(1))
		for _, p := range w.parts {
			w.step(p.n, &Tick{})
		}
	case "clock": // somebody sets the wall clock
		w.now.Wall += w.num(ws.at(1))
		for _, p := range w.parts {
			w.step(p.n, &Tick{})
		}
	case "show":
		for _, p := range w.parts {
			w.describe(p)
		}
	case "host", "join", "unlink", "down", "draining", "frozen", "thawed", "silence", "deactivated", "answer":
		w.hostCommand(ws)
	case "call", "promise", "tell", "remove":
		w.submit(ws)
	default:
		w.otherCommand(ws, line)
	}
}

func (w *world) submit(ws words) {
	name, t := ws.at(1), target(ws.at(2))
	r := Request{
		Kind: map[string]Kind{"call": Call, "promise": Promise, "tell": Tell, "remove": Remove}[ws.at(0)], Target: t,
		Method: "POST", Path: ws.at(3), Key: ws.opts["key"], Boot: ws.opts["from"], Body: []byte(ws.opts["body"]),
		NoHost: w.num(ws.opts["nohost"]), Busy: w.num(ws.opts["busy"]), CancelWithCaller: ws.has("cancel"),
	}
	if d := ws.opts["deadline"]; d != "" {
		r.Deadline = w.now.Wall + w.num(d)
	}
	if d := ws.opts["delay"]; d != "" {
		r.NotBefore = w.now.Wall + w.num(d)
	}
	if id, ok := w.ids[name]; ok {
		r.ID = id
	} else {
		r.ID = w.newID(name, t, r.Key)
	}
	waiter := name
	if x := ws.opts["waiter"]; x != "" {
		waiter = x
	}
	n := PartitionOf(t, r.Key, r.ID, len(w.parts))
	in := &Submit{Request: r, Waiter: waiter}
	if p := w.parts[n]; r.Key != "" {
		in.View = p.view(p.core.generation(t.App))
	}
	if of := ws.opts["session"]; of != "" {
		in.Request.Session = w.session(of)
		if q, ok := SessionPartition(in.Request.Session); ok && q != n {
			var ok bool
			if in.Vouched, ok = w.vouch(q, in.Request); !ok {
				return
			}
		}
	}
	w.step(n, in)
}

// session is that of the request's current attempt (or of what was saved).
func (w *world) session(of string) string {
	if s, ok := strings.CutPrefix(of, "raw-"); ok {
		return s
	}
	name, rest, _ := strings.Cut(of, "#") // r1#step.attempt for an earlier one
	id := w.ids[name]
	for _, p := range w.parts {
		if e := p.core.entries[id]; e != nil && (e.phase == running || rest != "") {
			s := p.core.sessionOf(e)
			if rest != "" {
				parts := strings.Split(s, ":")
				nums := strings.Split(parts[2], ".")
				s = fmt.Sprintf("%s:%s:%s.%s.%s", parts[0], parts[1], nums[0], rest, nums[3])
			}
			return s
		}
	}
	if rest == "" {
		rest = "0.1"
	}
	return fmt.Sprintf("%s:%s:%d.%s.1", id, id, id.Partition(), rest)
}

func (w *world) vouch(q uint16, r Request) (*Vouched, bool) {
	p := w.parts[q]
	p.core.Step(w.now, &Vouch{Request: r, Waiter: "vouch"})
	records, effects := p.core.Take()
	p.log, p.full = append(p.log, records...), append(p.full, records...)
	for i := range effects {
		if effects[i].Kind == Reply {
			w.say("= %s%s", w.mark(q), w.effectText(&effects[i]))
			v, _ := effects[i].Value.(*Vouched)
			return v, effects[i].Err == nil
		}
	}
	return nil, false
}

func (w *world) hostCommand(ws words) {
	boot := ws.at(1)
	switch ws.at(0) {
	case "host", "join":
		info := w.infos[boot]
		if ws.at(0) == "host" {
			info = HostInfo{Boot: boot, App: "dp", Service: ws.opts["service"], Grace: 6000, Idle: w.num(ws.opts["idle"])}
			if a := ws.opts["app"]; a != "" {
				info.App = a
			}
			if a := ws.opts["actors"]; a != "" {
				info.Actors = strings.Split(a, ",")
			}
			w.infos[boot] = info
		}
		if a := ws.opts["attachment"]; a != "" {
			info.Attachment = uint64(w.num(a))
			w.infos[boot] = info
		}
		for _, p := range w.parts {
			w.step(p.n, &HostJoined{Info: info, Join: w.joinAnswer(p.n, ws), Waiter: boot})
		}
	case "unlink":
		w.silent[boot] = true
		for _, p := range w.parts {
			w.step(p.n, &HostUnlinked{Boot: boot, Attachment: uint64(w.num(ws.opts["attachment"]))})
		}
	case "down":
		delete(w.infos, boot)
		for _, p := range w.parts {
			if at := ws.opts["at"]; at != "" && at != fmt.Sprint(p.n) {
				continue // it has not heard of it
			}
			w.step(p.n, &HostDown{Boot: boot, Reason: "exit"})
		}
	case "draining", "frozen", "thawed":
		info := w.infos[boot]
		info.Draining, info.Frozen = ws.at(0) == "draining", ws.at(0) == "frozen"
		w.infos[boot] = info
		if a := ws.opts["attachment"]; a != "" {
			info.Attachment = uint64(w.num(a))
		}
		for _, p := range w.parts {
			w.step(p.n, &HostChanged{Info: info})
		}
	case "silence":
		w.silent[boot] = true
	case "deactivated":
		a := target(ws.at(2)).Actor()
		in := &Deactivated{Boot: boot, Actor: a}
		if asked := w.ends[boot+" "+actorText(a)]; len(asked) > 0 && ws.opts["as"] != "older" {
			n := len(asked)
			if ws.opts["asked"] != "" {
				n = min(n, int(w.num(ws.opts["asked"])))
			}
			in.Epoch, in.Asking = asked[n-1].Epoch, asked[n-1].Asking
		}
		w.step(ActorPartition(a, len(w.parts)), in)
	case "answer":
		w.answer(ws)
	}
}

// attempt reads r1#step.number.
func (w *world) attempt(s string) Attempt {
	name, rest, _ := strings.Cut(s, "#")
	step, number, _ := strings.Cut(rest, ".")
	return Attempt{ID: w.ids[name], Step: uint32(w.num(step)), Number: uint32(w.num(number))}
}

func (w *world) joinAnswer(n uint16, ws words) (j JoinAnswer) {
	list := func(key string) []string {
		if ws.opts[key] == "" {
			return nil
		}
		return strings.Split(ws.opts[key], ",")
	}
	for _, s := range list("running") {
		if a := w.attempt(s); w.executes(n, a.ID) {
			j.Running = append(j.Running, a)
		}
	}
	for _, s := range list("finished") {
		at, body, lost := strings.Cut(s, "@")
		if a := w.attempt(at); w.executes(n, a.ID) {
			x := Answer{Attempt: a}
			if lost {
				x.Outcome = &Outcome{Status: 200, Body: []byte(body)}
			}
			j.Finished = append(j.Finished, x)
		}
	}
	for _, s := range list("instances") {
		if a := target(s).Actor(); ActorPartition(a, len(w.parts)) == n {
			j.Instances = append(j.Instances, a)
		}
	}
	return j
}

func (w *world) executes(n uint16, id ID) bool {
	c := w.parts[n].core
	return c.entries[id] != nil || c.ghosts[id] != nil
}

// answer r1 STATUS BODY | tailcall TARGET PATH [release] | lost | refused STATUS
func (w *world) answer(ws words) {
	id := w.ids[ws.at(1)]
	for _, p := range w.parts {
		e := p.core.entries[id]
		if e == nil {
			continue
		}
		in := &Answered{Boot: e.host, Answer: Answer{Attempt: p.core.attemptOf(e)}}
		if at := ws.opts["attempt"]; at != "" {
			in.Answer.Attempt = w.attempt(ws.at(1) + "#" + at)
		}
		if b := ws.opts["boot"]; b != "" {
			in.Boot = b
		}
		switch ws.at(2) {
		case "lost":
		case "refused":
			in.Answer.ActivationFailed = true
			in.Answer.Outcome = &Outcome{Status: int(w.num(ws.at(3))), Body: []byte("no")}
		case "tailcall":
			in.Answer.Outcome = &Outcome{Status: 200, Header: Header{"Content-Type": {"application/kar+json"}}, Body: tailCallBody(target(ws.at(3)), ws.at(4), ws.has("release"))}
		default:
			body := strings.Join(ws.plain[3:], " ")
			if n := ws.opts["size"]; n != "" {
				body = strings.Repeat("x", int(w.num(n)))
			}
			in.Answer.Outcome = &Outcome{Status: int(w.num(ws.at(2))), Body: []byte(body)}
		}
		w.step(p.n, in)
		return
	}
	w.say("  (no such request)")
}

func tailCallBody(t Target, path string, release bool) []byte {
	to := fmt.Sprintf(`"actorType":%q,"actorId":%q`, t.Type, t.ID)
	if !t.IsActor() {
		to = fmt.Sprintf(`"serviceName":%q`, t.Service)
	}
	return fmt.Appendf(nil, `{"tailCall":true,"value":{%s,"path":%q,"payload":"[]","releaseLock":%q}}`, to, path, fmt.Sprint(release))
}
