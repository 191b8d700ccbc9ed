package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
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
type memory struct {
	c *Cluster

	mu    sync.Mutex
	next  int64 // offset to read from
	notes map[string]note
}

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
	}
	return now.numbers(), m.write(ctx, name, now)
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
	return n.numbers(), m.write(ctx, at.name, n)
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

// read takes in what has been written since.
func (m *memory) read(ctx context.Context) error {
	topic := m.c.cfg.offsetsTopic()
	addr, err := m.leader(ctx)
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

func (m *memory) set(name string, n note) {
	if m.notes == nil {
		m.notes = map[string]note{}
	}
	m.notes[name] = n
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

// write makes a note durable; it may do so twice.
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
		if err == nil {
			_, err = m.c.produce(ctx, addr, topic, 0, []*sarama.Record{{Key: []byte(name), Value: value}})
		}
		if err == nil {
			m.set(name, n)
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
