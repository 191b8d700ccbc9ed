package engine

import (
	"context"
	"time"

	"github.com/karmesh/kar/runtime"
)

// This file is the engine as the rooms above it see it. Every method may be
// called from any goroutine; every error is a *runtime.Error unless it is
// ctx's own. A ctx that ends only ends the waiting, never the work.

// Call submits a request and waits for its outcome. A request whose id is
// already known is not run again: the caller becomes one more waiter. A zero
// r.ID is filled in (and set in *r before anything else happens).
func (m *Mesh) Call(ctx context.Context, r *runtime.Request) (*runtime.Outcome, error) {
	panic("pending")
}

// Accept submits a request (Tell, Promise or Remove) and returns once it is durable.
func (m *Mesh) Accept(ctx context.Context, r *runtime.Request) (runtime.ID, error) {
	panic("pending")
}

// Await waits for the outcome of an earlier request of the app.
func (m *Mesh) Await(ctx context.Context, app string, id runtime.ID) (*runtime.Outcome, error) {
	panic("pending")
}

// Release says that the outcome of a plain call has reached its caller and need not be kept.
func (m *Mesh) Release(ids ...runtime.ID) { panic("pending") }

// Cancel withdraws a request: before its start it completes as cancelled; a
// running one goes on, its waiters are answered. The result is "cancelled",
// "running" or "completed".
func (m *Mesh) Cancel(ctx context.Context, app string, id runtime.ID) (string, error) {
	panic("pending")
}

// CancelAll withdraws every request of the app that has not started and returns how many.
func (m *Mesh) CancelAll(ctx context.Context, app string) (int, error) { panic("pending") }

// State reads or changes an actor's state.
func (m *Mesh) State(ctx context.Context, op runtime.StateOp) (runtime.StateResult, error) {
	panic("pending")
}

// SetReminder creates or replaces a reminder.
func (m *Mesh) SetReminder(ctx context.Context, boot string, r runtime.Reminder) (replaced bool, err error) {
	panic("pending")
}

// Reminders lists the reminders of an actor, sorted by id; all when id is "".
func (m *Mesh) Reminders(ctx context.Context, a runtime.Actor, id string) ([]runtime.Reminder, error) {
	panic("pending")
}

// CancelReminders removes one reminder, or all when id is "".
func (m *Mesh) CancelReminders(ctx context.Context, boot string, a runtime.Actor, id string) (int, error) {
	panic("pending")
}

// Subscribe creates or replaces a subscription. It returns once the offsets
// from which events count are durable.
func (m *Mesh) Subscribe(ctx context.Context, s runtime.Subscription) (replaced bool, err error) {
	panic("pending")
}

// Subscriptions lists the subscriptions of an actor, sorted by id; all when id is "".
func (m *Mesh) Subscriptions(ctx context.Context, a runtime.Actor, id string) ([]runtime.Subscription, error) {
	panic("pending")
}

// Unsubscribe removes one subscription, or all when id is "".
func (m *Mesh) Unsubscribe(ctx context.Context, a runtime.Actor, id string) (int, error) {
	panic("pending")
}

// Group is what the pump of events/ needs to know: whose turn it is at which offset.
type Group struct {
	Key   string // opaque
	Topic string
	Next  int64 // offset of the next event to deliver
}

// Groups lists the consumer groups (a subscription without group is a group of
// its own); changed is closed when the list is no longer the whole truth.
func (m *Mesh) Groups() (groups []Group, changed <-chan struct{}) { panic("pending") }

// Deliver turns consecutive events into requests of the group's subscribers,
// exactly once each; it returns the group's next offset once that is durable,
// or an error with CodeNotFound when the group is gone. It waits while too
// much of the group's earlier work is unfinished.
func (m *Mesh) Deliver(ctx context.Context, group string, events []runtime.Event) (next int64, err error) {
	panic("pending")
}

// Hosts lists the live hosts of an app ("" for all), sorted by boot.
func (m *Mesh) Hosts(app string) []runtime.HostInfo { panic("pending") }

// HostOf is the host info of a live boot.
func (m *Mesh) HostOf(boot string) (runtime.HostInfo, bool) { panic("pending") }

// Active lists the actors of the app that are active on a host, sorted; "" for all hosts.
func (m *Mesh) Active(ctx context.Context, app, boot string) ([]runtime.Actor, error) {
	panic("pending")
}

// Known lists the actors of the app that are active or have state; typ "" for
// all types. Sorted.
func (m *Mesh) Known(ctx context.Context, app, typ string) ([]runtime.Actor, error) {
	panic("pending")
}

// Missing is a component that requests wait for and nobody offers.
type Missing struct {
	App       string
	Component string // actor type or service name
	Actor     bool
	Waiting   int
	Since     time.Time
}

// Missing lists what requests of the app ("" for all) wait for, sorted.
func (m *Mesh) Missing(app string) []Missing { panic("pending") }

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
	panic("pending")
}

// Purge forgets the app: its work is withdrawn, its state, reminders and
// subscriptions removed. It returns when nothing of it can come back.
func (m *Mesh) Purge(ctx context.Context, app string) error { panic("pending") }

// Drain withdraws what has not started, waits for the rest, and keeps state,
// reminders and subscriptions. It returns how many requests were withdrawn.
func (m *Mesh) Drain(ctx context.Context, app string) (int, error) { panic("pending") }

// Service is a component that is reached by URL.
type Service struct {
	App, Name, URL string
	Timeout        time.Duration // how long one attempt may take
}

// AddService registers (or replaces) a url component.
func (m *Mesh) AddService(ctx context.Context, s Service) (replaced bool, err error) {
	panic("pending")
}

// RemoveService removes one.
func (m *Mesh) RemoveService(ctx context.Context, app, name string) (existed bool, err error) {
	panic("pending")
}

// Services lists the url components of an app ("" for all), sorted; changed is
// closed when the list is no longer the whole truth.
func (m *Mesh) Services(app string) (list []Service, changed <-chan struct{}) { panic("pending") }

// Stats are counters for /metrics and status, since the start of the process.
type Stats struct {
	Accepted, Completed, Retried, HostsLost, RemindersFired, EventsDelivered uint64
	Appends, AppendedRecords, AppendedBytes, Trims                           uint64
	Hosts, ActiveActors, Pending, Parked, Running, Reminders, Subscriptions  int
	LogBytes                                                                 int64
	AppendSeconds, RecoverySeconds                                           float64
}

// Stats reads the counters of all partitions.
func (m *Mesh) Stats() Stats { panic("pending") }

// Healthy is nil while every partition can append and the store answers.
func (m *Mesh) Healthy(ctx context.Context) error { panic("pending") }

// Idle tells that no work is left that could run without somebody asking: no
// running or runnable request, no reminder with a live or startable host. Used
// to stop a background gateway.
func (m *Mesh) Idle() bool { panic("pending") }

// Pause refuses new work from outside with CodeShutdown (callers were told
// nothing was accepted); what is running goes on.
func (m *Mesh) Pause() { panic("pending") }
