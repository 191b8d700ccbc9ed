package engine

import (
	"context"
	"sort"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Missing is a component that requests wait for and nobody offers.
type Missing struct {
	App       string
	Component string // actor type or service name
	Actor     bool
	Waiting   int
	Since     time.Time
}

// Missing lists what requests of the app ("" for all) wait for, sorted.
func (m *Mesh) Missing(app string) []Missing {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	byName := map[Missing]Missing{}
	now := time.Now()
	_ = m.query(ctx, runtime.Query{Kind: runtime.QueryMissing, App: app}, func(v any) {
		list, _ := v.([]runtime.MissingComponent)
		for _, x := range list {
			key := Missing{App: x.App, Component: x.Name, Actor: x.Actor}
			since := now.Add(-time.Duration(x.Since) * time.Millisecond)
			sum := byName[key]
			if sum.Since.IsZero() || since.Before(sum.Since) {
				sum.Since = since
			}
			byName[key] = Missing{x.App, x.Name, x.Actor, sum.Waiting + x.Waiting, sum.Since}
		}
	})
	list := make([]Missing, 0, len(byName))
	for _, x := range byName {
		list = append(list, x)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return a.App < b.App || a.App == b.App && a.Component < b.Component
	})
	return list
}

// RequestInfo tells where a request is.
type RequestInfo struct {
	ID        string
	State     string // "waiting", "parked", "running", "retrying", "completed"
	Target    runtime.Target
	Attempt   uint32
	Step      uint32
	Host      string
	BlockedBy string // for people: what it waits for
}

// Request describes a request of the app.
func (m *Mesh) Request(ctx context.Context, app string, id runtime.ID) (RequestInfo, error) {
	unknown := &runtime.Error{Code: runtime.CodeUnknownRequest, Detail: "no request of app " + app + " has this id", ID: id}
	if !id.OfApp(app) {
		return RequestInfo{}, unknown
	}
	var best runtime.RequestFacts
	err := m.query(ctx, runtime.Query{Kind: runtime.QueryRequest, App: app, Request: id}, func(v any) {
		f, _ := v.(runtime.RequestFacts)
		if f.State != "" && (best.State == "" || best.BlockedBy != "" && f.Step > best.Step) {
			best = f
		}
	})
	if err != nil {
		return RequestInfo{}, err
	}
	if best.State == "" {
		return RequestInfo{}, unknown
	}
	return RequestInfo{id.String(), best.State, best.Target, best.Attempt, best.Step, best.Host, best.BlockedBy}, nil
}

// Stats are counters for /metrics and status, since the start of the process.
type Stats struct {
	Accepted, Completed, Retried, HostsLost, HostsEnded, RemindersFired, EventsDelivered uint64
	// DeadLetters: tells that ended with an error, promises that ended with an error of the app.
	DeadLetters                                                             uint64
	LogsTorn                                                                uint64 // times that somebody else had deleted the front of a log
	EventsLost                                                              uint64 // that were delivered or confirmed, for each group, and that their topics have lost since
	TermsLost                                                               uint64 // times that a host knew of a term that the log had lost
	Appends, AppendedRecords, AppendedBytes, Trims                          uint64
	Hosts, ActiveActors, Pending, Parked, Running, Reminders, Subscriptions int
	RemindersWaiting, GroupsWaiting                                         int   // until their app has less unfinished
	AnswersWaiting                                                          int   // of other partitions, before which interrupted work does not begin again
	WorkBytes, WorkLimit                                                    int64 // memory that open requests and waiting changes take, and may take; 0 for no limit
	LogBytes                                                                int64
	AppendSeconds, RecoverySeconds                                          float64
	// Of the partitions that this node owns.
	Shares
}

// EventsLost counts events that a topic had confirmed and has lost.
func (m *Mesh) EventsLost(n int64) { m.tally.eventsLost.Add(uint64(n)) }

// statsPatience is how long a scrape waits for partitions that are at something
// else, such as an append without an answer; their sizes are left out then.
const statsPatience = time.Second

// Stats reads the counters of the partitions that this node owns.
func (m *Mesh) Stats() Stats {
	ctx, cancel := context.WithTimeout(context.Background(), statsPatience)
	defer cancel()
	s := Stats{Hosts: len(m.Hosts("")), HostsLost: m.tally.hostsLost.Load(), HostsEnded: m.tally.hostsEnded.Load(), LogsTorn: m.tally.torn.Load(), TermsLost: m.tally.termsLost.Load(), EventsLost: m.tally.eventsLost.Load(), WorkBytes: m.memory.held.Load() + m.memory.asking.Load() + m.memory.ahead.Load(), WorkLimit: m.memory.limit}
	_ = m.queryMine(ctx, runtime.Query{Kind: runtime.QueryGauges}, func(_ *partition, v any) {
		g := v.(runtime.Gauges)
		s.ActiveActors += g.ActiveActors
		s.Pending += g.Open
		s.Parked += g.Parked
		s.Running += g.Running
		s.Reminders += g.Reminders
		s.Subscriptions += g.Subscriptions
		s.RemindersWaiting += g.RemindersWaiting
		s.GroupsWaiting += g.GroupsWaiting
		s.AnswersWaiting += g.AnswersWaiting
	})
	// After the questions: what was decided before them is counted.
	for _, p := range m.parts {
		x := p.stats.Load()
		c := x.totals()
		s.Accepted += c.Accepted
		s.Completed += c.Completed
		s.Retried += c.Retried
		s.RemindersFired += c.RemindersFired
		s.EventsDelivered += c.EventsDelivered
		s.DeadLetters += c.DeadLetters
		s.Appends += x.appends
		s.AppendedRecords += x.records
		s.AppendedBytes += x.bytes
		s.Trims += x.trims
		s.AppendSeconds += x.appendTime.Seconds()
		s.RecoverySeconds = max(s.RecoverySeconds, x.recovery.Seconds())
		if m.mine(p) {
			s.LogBytes += p.log.Size()
		}
	}
	s.Shares = m.shares()
	return s
}

// Healthy is nil while every partition of this node can append, each has an owner
// somewhere, and the store answers.
func (m *Mesh) Healthy(ctx context.Context) error {
	for _, p := range m.parts {
		if err := p.down.Load(); err != nil {
			return err
		}
		if err := p.stands.Load(); err != nil {
			return err
		}
		if x := p.full.Load(); x != nil && time.Since(x.at) < noRoomFor {
			return x.err
		}
	}
	if m.owned != nil {
		if err := m.owned.ready(); err != nil {
			return err
		}
		if a := m.owned.abandoned(); len(a.waited) > 0 {
			return a.err(runtime.CodeNotOwner)
		}
	}
	select {
	case <-m.silence.hear():
		return storeAway(errSilent)
	default:
	}
	for _, p := range m.parts {
		if m.cfg.Shared != nil && m.dir.of(p.n).node != m.cfg.Node {
			continue
		}
		w := newWaiter()
		if _, err := p.ask(ctx, w, &runtime.Query{Kind: runtime.QueryGeneration, Waiter: w}); err != nil && !is(err, runtime.CodeNotOwner) {
			return err
		}
		at, err := m.cfg.Store.Applied(ctx, p.n)
		if err != nil {
			return storeAway(err)
		}
		a := p.applier.Load()
		if a.saw(at); a.missing() != nil {
			return a.missing()
		}
	}
	return nil
}

// Idle tells that no work is left that could run without somebody asking: no
// attached host and no request or reminder whose component is there. A partition
// that cannot work, because its log or store is away, has none. Used to stop a
// background gateway.
func (m *Mesh) Idle() bool {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	idle := true
	_ = m.queryMine(ctx, runtime.Query{Kind: runtime.QueryIdle}, func(_ *partition, v any) {
		idle = idle && v.(bool)
	})
	return idle
}

// Owners are the gateways that own the partitions, in their order, as far as
// this node knows; "" for none.
func (m *Mesh) Owners() []string {
	nodes := make([]string, len(m.parts))
	for p, own := range m.dir.all() {
		if nodes[p] = own.node; m.cfg.Shared == nil {
			nodes[p] = m.cfg.Node
		}
	}
	return nodes
}
