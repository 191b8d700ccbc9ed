package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// memory knows from which number each topic counts, so that the offsets of one
// that is deleted and created again go on: readers keep positions by name. Kafka
// begins each topic at 0, and forgets all about one that is gone. It is a
// compacted topic of the mesh, with one small record per topic name, which all
// gateways read before they write.
//
// When other programs delete a topic and make it anew, nobody has written down
// how far it went; the new one then counts from a number that is higher by far.
//
// Who deletes the memory itself takes nothing from readers: gateways that run write down
// anew what they know, and what nobody knows counts from a number that is higher than all
// before, so that it is read again from its beginning. Of several notes of one topic the
// first counts, and who writes one reads what is in front of it.
type memory struct {
	c      *Cluster
	forget func() // what was taken from the memory

	id atomic.Pointer[sarama.Uuid] // of the memory's own topic, as it was read last

	mu    sync.Mutex
	next  int64 // offset to read from
	notes map[string]note
	kept  map[string]note // from a memory that is gone, until they are in the new one
}

// others is the name of the note that says from which number topics count of which there
// is none. It is the first in a memory that was begun with the mesh, or when it was lost;
// older ones have none, which is 0.
const others = ""

// A note is what is remembered of a topic: the last one of its name.
type note struct {
	ID   string `json:"id"`
	Base int64  `json:"base"`
	// Pieces are those that count higher than from Base, after the end was lost.
	Pieces []piece `json:"pieces,omitempty"`
	// Next is where the next topic of the name begins; set once this one is deleted.
	Next *int64 `json:"next,omitempty"`
}

func (n note) numbers() numbers { return append(numbers{{0, n.Base}}, n.Pieces...) }

// jump is more events than a topic ever holds.
const jump = 1 << 40

// numbers are those of the topic with this id.
func (m *memory) numbers(ctx context.Context, name string, id sarama.Uuid) (numbers, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(ctx); err != nil {
		return nil, err
	}
	n, known := m.notes[name]
	if known && n.ID == id.String() {
		return n.numbers(), nil
	}
	// Two gateways may do this at a time: they come to the same number.
	now := note{ID: id.String()}
	switch {
	case known && n.Next != nil:
		now.Base = *n.Next
	case known:
		all := n.numbers()
		now.Base = all[len(all)-1].Base + jump
	default:
		if len(m.notes) == 0 {
			if err := m.beginLate(ctx); err != nil {
				return nil, err
			}
			if n := m.notes[name]; n.ID == id.String() {
				return n.numbers(), nil
			}
		}
		now.Base = m.notes[others].Base
	}
	return m.settle(ctx, name, now)
}

// settle writes a note, and returns what counts of all that there are of the topic.
func (m *memory) settle(ctx context.Context, name string, n note) (numbers, error) {
	if err := m.write(ctx, name, n); err != nil {
		return nil, err
	}
	counts := m.notes[name]
	if counts.ID != n.ID || slices.Equal(counts.numbers(), n.numbers()) {
		return n.numbers(), nil
	}
	return counts.numbers(), m.write(ctx, name, counts) // for compaction keeps the last
}

// lost notes that a topic has lost its end, unless another gateway has since at was read.
func (m *memory) lost(ctx context.Context, at *eventTopic, from int64) (numbers, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(ctx); err != nil {
		return nil, err
	}
	n := m.notes[at.name]
	all := n.numbers()
	if n.ID != at.id.String() {
		return at.numbers, nil
	}
	if len(all) != len(at.numbers) {
		return all, nil
	}
	n.Pieces = append(slices.Clip(n.Pieces), piece{from, all[len(all)-1].Base + jump})
	return m.settle(ctx, at.name, n)
}

// begin makes the memory of a mesh to whose log nothing was written yet. Where that is not
// known nothing is done: the gateway starts, and the memory is begun late.
func (m *memory) begin(ctx context.Context) error {
	for p := range int32(m.c.cfg.Partitions) {
		end := int64(0)
		err := m.c.do(ctx, m.c.led(p), func(b *sarama.Broker) (err error) {
			end, err = listOffset(b, m.c.topic, p, sarama.OffsetNewest, client)
			return err
		})
		if err != nil || end > 0 {
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(ctx); err != nil || len(m.notes) > 0 {
		return err
	}
	return m.write(ctx, others, note{})
}

// beginLate begins a memory that is empty, though the mesh is older: it may have been
// lost. All numbers up to now are smaller than the one from which topics count then.
func (m *memory) beginLate(ctx context.Context) error {
	base := time.Now().Unix() << 22 // exact in a float64 until 2038
	if err := m.write(ctx, others, note{Base: base}); err != nil {
		return err
	}
	m.c.cfg.Logger.Warn("nothing says from where topics count, and the mesh is not new. If somebody has deleted that, topics that no gateway knows are delivered again from their beginning", "topic", m.c.cfg.offsetsTopic(), "first", m.notes[others].Base)
	return nil
}

// look takes a look at whether the memory is still the one that was read.
func (m *memory) look(ctx context.Context, answer *sarama.MetadataResponse) error {
	id := m.id.Load()
	if id == nil {
		return nil
	}
	if t, err := topicOf(answer, m.c.cfg.offsetsTopic()); err == nil && t.Uuid == *id || err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read(ctx)
}

// knows tells whether this very topic was used before.
func (m *memory) knows(ctx context.Context, name string, id sarama.Uuid) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(ctx); err != nil {
		return false, err
	}
	n, known := m.notes[name]
	return known && n.ID == id.String(), nil
}

// ended notes that the topic is about to be deleted.
func (m *memory) ended(ctx context.Context, at *eventTopic, next int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(ctx); err != nil {
		return err
	}
	return m.write(ctx, at.name, note{ID: at.id.String(), Base: at.numbers[0].Base, Pieces: at.numbers[1:], Next: &next})
}

// exists tells whether some gateway created the topic and none deleted it.
func (m *memory) exists(ctx context.Context, name string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(ctx); err != nil {
		return false, err
	}
	n, known := m.notes[name]
	return known && n.Next == nil, nil
}

// read takes in what has been written since. When the memory is another one than before,
// what is not in it is written down anew.
func (m *memory) read(ctx context.Context) error {
	if err := m.readOn(ctx); err != nil || m.kept == nil {
		return err
	}
	if _, begun := m.notes[others]; !begun {
		if err := m.beginLate(ctx); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.kept)) {
		if _, known := m.notes[name]; !known && name != others {
			if err := m.write(ctx, name, m.kept[name]); err != nil {
				return err
			}
		}
	}
	m.kept = nil
	m.forget()
	m.c.cfg.Logger.Error("somebody has deleted the memory of topics; what this gateway knew of it is written down again. A topic that no gateway knew is delivered again from its beginning", "topic", m.c.cfg.offsetsTopic())
	return nil
}

func (m *memory) readOn(ctx context.Context) error {
	topic := m.c.cfg.offsetsTopic()
	addr, err := m.leader(ctx)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) && m.id.Load() != nil {
		if err = m.create(ctx); err == nil { // or it is there after all
			addr, err = m.leader(ctx)
		}
	}
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil
	}
	for err == nil {
		var block *sarama.FetchResponseBlock
		err = m.c.do(ctx, addr, func(b *sarama.Broker) (err error) {
			block, err = fetchBlock(b, topic, 0, m.next, fetchBytes, sarama.ReadUncommitted)
			return err
		})
		if err != nil {
			break
		}
		for _, b := range batchesOf(block) {
			for _, r := range b.Records {
				var n note
				if json.Unmarshal(r.Value, &n) != nil {
					return m.c.topicFault(fmt.Errorf("record %d is not KAR's", b.FirstOffset+r.OffsetDelta), "give a memory of topics in "+topic)
				}
				m.set(string(r.Key), n)
			}
			m.next = max(m.next, b.LastOffset()+1)
		}
		if m.next >= block.HighWaterMarkOffset {
			return nil
		}
	}
	return m.c.topicFault(err, "read "+topic)
}

// set: of notes of one topic the first says from where it counts.
func (m *memory) set(name string, n note) {
	if m.notes == nil {
		m.notes = map[string]note{}
	}
	if first, known := m.notes[name]; known && first.ID == n.ID {
		if n.Base != first.Base || len(n.Pieces) <= len(first.Pieces) {
			n.Base, n.Pieces = first.Base, first.Pieces
		}
		if n.Next == nil {
			n.Next = first.Next
		}
	}
	m.notes[name] = n
}

// found notes which topic the memory is.
func (m *memory) found(id sarama.Uuid) {
	if was := m.id.Swap(&id); was == nil || *was == id {
		return
	}
	if m.kept == nil {
		m.kept = map[string]note{}
	}
	maps.Copy(m.kept, m.notes)
	m.notes, m.next = nil, 0
}

func (m *memory) leader(ctx context.Context) (string, error) {
	answer, err := m.c.metadata(ctx, m.c.cfg.offsetsTopic())
	if err != nil {
		return "", err
	}
	t, err := topicOf(answer, m.c.cfg.offsetsTopic())
	if err != nil {
		return "", err
	}
	m.found(t.Uuid)
	for _, p := range t.Partitions {
		if p.ID != 0 { // somebody has given it more, in which nothing is
			continue
		}
		for _, b := range answer.Brokers {
			if b.ID() == p.Leader {
				return b.Addr(), nil
			}
		}
	}
	return "", sarama.ErrLeaderNotAvailable
}

// write makes a note durable, maybe twice, and reads up to it.
func (m *memory) write(ctx context.Context, name string, n note) error {
	value, err := json.Marshal(n)
	if err != nil {
		return err
	}
	topic := m.c.cfg.offsetsTopic()
	deadline := time.Now().Add(m.c.cfg.Timeout)
	for {
		addr, err := m.leader(ctx)
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			err = m.create(ctx)
			if err == nil {
				addr, err = m.leader(ctx)
			}
		}
		at := int64(0)
		if err == nil {
			at, err = m.c.produce(ctx, addr, topic, 0, []*sarama.Record{{Key: []byte(name), Value: value}})
		}
		if err == nil {
			if err = m.readOn(ctx); err == nil && m.next <= at {
				err = sarama.ErrOffsetNotAvailable // a new leader may need a moment
			}
		}
		if err == nil {
			return nil
		}
		var coded *runtime.Error
		err = m.c.topicFault(err, "write to "+topic)
		again := passing(err) || errors.As(err, &coded) && coded.Code == runtime.CodeUnknownOutcome
		if !again || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *memory) create(ctx context.Context) error {
	answer, err := m.c.metadata(ctx, m.c.cfg.offsetsTopic())
	if err != nil {
		return err
	}
	copies := m.c.copies(answer)
	_, err = m.c.create(ctx, m.c.cfg.offsetsTopic(), 1, copies, map[string]string{
		"cleanup.policy":      "compact",
		"min.insync.replicas": m.c.cfg.wanted(copies)["min.insync.replicas"],
	})
	if err != nil {
		return err
	}
	_, err = m.c.settled(ctx, m.c.cfg.offsetsTopic(), 1)
	return err
}
