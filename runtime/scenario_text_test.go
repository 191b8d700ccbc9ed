package runtime

import (
	"fmt"
	"strings"
)

func (w *world) recordText(r *Record) string {
	s := ""
	if r.ViaN != 0 {
		s = fmt.Sprintf("via p%d.%d ", r.ViaFrom, r.ViaN)
	}
	s += w.bodyText(r.Body)
	for _, o := range r.Out {
		s += fmt.Sprintf(" out p%d.%d", o.To, o.N)
	}
	return s
}

func (w *world) bodyText(m message) string {
	switch b := m.(type) {
	case *header:
		return "header"
	case *accepted:
		s := fmt.Sprintf("accepted %s %s%s", w.name(b.req.ID), targetText(b.req.Target), b.req.Path)
		if b.flow != b.req.ID {
			s += " flow " + w.name(b.flow)
		}
		for _, p := range b.parents {
			s += " child of " + w.name(p)
		}
		if b.step > 0 {
			s += fmt.Sprintf(" step %d", b.step)
		}
		if b.reminder != "" {
			s += fmt.Sprintf(" reminder %s due %s count %d next %s", b.reminder, clock(b.due), b.count, clock(b.nextDue))
		}
		if b.group != "" && b.groupPart == 0 {
			s += fmt.Sprintf(" event %d %s", b.offset, b.req.Body)
		}
		return s
	case *started:
		return fmt.Sprintf("started %s step %d attempt %d on %s", w.name(b.id), b.step, b.attempt, b.host)
	case *completed:
		s := "completed " + w.name(b.id)
		if b.none {
			s += " none"
		} else {
			s += " " + outcomeText(&b.outcome)
		}
		if b.unplaced {
			s += " unplaced"
		}
		if b.removed {
			s += " removed"
		}
		if b.storeTTL > 0 {
			s += " kept"
		}
		return s
	case *continued:
		s := fmt.Sprintf("continued %s step %d %s%s", w.name(b.id), b.step, targetText(b.target), b.path)
		if b.keepLock {
			s += " lock kept"
		}
		if b.away {
			s += " away"
		}
		return s
	case *unplaced:
		return "unplaced " + actorText(b.actor)
	case *hostLost:
		return "host lost " + b.boot + " (" + b.reason + ")"
	case *stateChanged:
		s := "state " + actorText(b.actor)
		if b.clear {
			s += " clear"
		}
		for _, f := range b.set {
			s += fmt.Sprintf(" %s=%s", f.Key, f.Value)
		}
		return s
	case *reminderSet:
		return fmt.Sprintf("reminder set %s %s due %s", actorText(b.r.Actor), b.r.ID, clock(b.r.Due))
	case *reminderGone:
		return fmt.Sprintf("reminder gone %s %v", actorText(b.actor), b.ids)
	case *subscribed:
		return fmt.Sprintf("subscribed %s %s topic %s from %d", actorText(b.s.Actor), b.s.ID, b.s.Topic, b.s.Next)
	case *unsubscribed:
		return fmt.Sprintf("unsubscribed %s %v", actorText(b.actor), b.ids)
	case *serviceSet:
		if b.gone {
			return fmt.Sprintf("service %s/%s gone", b.app, b.service.name)
		}
		return fmt.Sprintf("service %s/%s at %s", b.app, b.service.name, b.service.url)
	case *appChanged:
		return fmt.Sprintf("app %s generation %d", b.app, b.generation)
	case *fenced:
		return fmt.Sprintf("fenced p%d below %d", b.partition, b.below)
	case *keptPast:
		return fmt.Sprintf("kept past of %s step %d up to attempt %d", w.name(b.id), b.step, b.attempt)
	case *borrowed:
		s := "borrowed " + w.name(b.lent) + " by " + w.name(b.id)
		for _, p := range b.parents {
			s += " child of " + w.name(p)
		}
		return s
	case *waived:
		s := "waived"
		for _, id := range b.calls {
			s += " " + w.name(id)
		}
		return s
	case *cleared:
		s := fmt.Sprintf("cleared %s of what came before this", b.app)
		if b.line > 0 {
			s = fmt.Sprintf("cleared %s of what came before %d: %d so far", b.app, b.line, b.n)
		}
		return s
	case *wished:
		return "wished the end of " + w.name(b.id)
	case *cancelled:
		return "cancelled " + w.name(b.id)
	case *received:
		return "received"
	case *purged:
		s := "purged"
		for _, id := range b.ids {
			s += " " + w.name(id)
		}
		return s
	case *keptIDs:
		s := "ended"
		for _, id := range b.ids {
			s += " " + w.name(id)
		}
		return s
	case *delivered:
		return fmt.Sprintf("delivered up to %d", b.next)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "*runtime.")
}

func (w *world) effectText(e *Effect) string {
	switch e.Kind {
	case Reply:
		s := fmt.Sprintf("reply %v: ", e.Waiter)
		switch {
		case e.Err != nil:
			return s + "refused " + string(e.Err.Code)
		case e.Outcome != nil:
			return s + outcomeText(e.Outcome)
		case e.Value != nil:
			return s + w.valueText(e.Value)
		}
		return s + "accepted " + w.name(e.ID)
	case ToHost:
		return "to " + e.Boot + ": " + w.messageText(e.Msg)
	case WatchChild:
		s := "watch child " + w.name(e.ID) + " of"
		for _, id := range e.Value.([]ID) {
			s += " " + w.name(id)
		}
		return s
	case AppError:
		return "log error of " + w.name(e.ID) + ": " + outcomeText(e.Outcome)
	case LostHost:
		return "lost " + e.Boot
	}
	return fmt.Sprintf("effect %d", e.Kind)
}

func (w *world) valueText(v any) string {
	switch v := v.(type) {
	case StateResult:
		s := fmt.Sprintf("found=%v value=%q created=%v n=%d", v.Found, v.Value, v.Created, v.N)
		for _, f := range v.Fields {
			s += fmt.Sprintf(" %s=%s", f.Key, f.Value)
		}
		return s
	case []Reminder:
		s := "reminders"
		for _, r := range v {
			s += fmt.Sprintf(" %s due %s", r.ID, clock(r.Due))
		}
		return s
	case *Vouched:
		if v == nil {
			return "no known parent"
		}
		return "vouched for flow " + w.name(v.Flow)
	}
	return fmt.Sprint(v)
}

func (w *world) messageText(m HostMessage) string {
	switch m := m.(type) {
	case *Invoke:
		s := fmt.Sprintf("invoke %s#%d.%d %s%s", w.name(m.Attempt.ID), m.Attempt.Step, m.Attempt.Number, targetText(m.Target), m.Path)
		if d := m.Header.Get("Kar-Reminder-Due"); d != "" {
			s += " due " + d[11:23] + " count " + m.Header.Get("Kar-Reminder-Count")
		}
		return s
	case *Deactivate:
		return "deactivate " + actorText(m.Actor)
	case *Taken:
		s := "taken"
		for _, a := range m.Attempts {
			s += fmt.Sprintf(" %s#%d.%d", w.name(a.ID), a.Step, a.Number)
		}
		return s
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "*runtime.")
}

func outcomeText(o *Outcome) string {
	if o.Code != "" {
		return fmt.Sprintf("%d %s", o.Status, o.Code)
	}
	return fmt.Sprintf("%d %s", o.Status, clip(strings.TrimSpace(string(o.Body)), 60))
}

func clock(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return formatMillis(ms)[11:23]
}
