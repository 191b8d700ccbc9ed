package engine

import (
	"context"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Publish appends an event to a topic. One with an id is published by the owner
// of the id, who does so once however often it is asked; without an id a repeat
// is another event.
func (m *Mesh) Publish(ctx context.Context, by runtime.Caller, app, topic string, event runtime.Event) error {
	if m.cfg.Topics == nil {
		return runtime.Errorf(runtime.CodeUnsupported, "this mesh has no topics")
	}
	if by.ID.IsZero() {
		return m.putEvent(ctx, topic, event)
	}
	if m.part(by.ID.Partition()) == nil || !by.ID.OfApp(app) {
		return &runtime.Error{Code: runtime.CodeBadID, Detail: "the request id was made for another app", ID: by.ID}
	}
	event = runtime.PublishedAs(by.ID, topic, event)
	_, err := m.do(ctx, &Op{Partition: by.ID.Partition(), Publish: &PublishOp{App: app, Boot: by.Boot, ID: by.ID, Topic: topic, Event: event}})
	return err
}

// putEvent notes whether there is room for events.
func (m *Mesh) putEvent(ctx context.Context, topic string, event runtime.Event) error {
	_, err := m.cfg.Topics.Publish(ctx, topic, event)
	switch {
	case err == nil:
		m.topicsFull.Store(nil)
	case is(err, runtime.CodeDiskFull):
		m.topicsFull.Store(&noRoom{time.Now(), asError(err)})
	}
	return err
}

// TopicsFull is why the last event was refused for want of room; like for the log, it is
// said for a minute. Requests may be taken all the same.
func (m *Mesh) TopicsFull() error {
	if x := m.topicsFull.Load(); x != nil && time.Since(x.at) < noRoomFor {
		return x.err
	}
	return nil
}

// publish decides here whether an event is new, and appends it if so. It does not
// stop when the asker goes: who asks next must be told how it ended.
func (p *partition) publish(ctx context.Context, op *PublishOp) (reply, error) {
	w := newWaiter()
	rep, err := p.ask(context.WithoutCancel(ctx), w, &runtime.Publish{App: op.App, ID: op.ID, Boot: op.Boot, Waiter: w})
	if err != nil {
		return reply{}, err
	}
	if first, _ := rep.value.(bool); !first {
		return reply{value: true}, nil
	}
	err = p.m.putEvent(context.WithoutCancel(ctx), op.Topic, op.Event)
	end := &runtime.Published{ID: op.ID}
	if err != nil {
		end.Err = asError(err)
	}
	p.push(end)
	return reply{value: true}, err
}
