package parts

import (
	"context"
	"os"
	"sync"
	"testing"
)

// NeedKafka starts a Kafka for one test and ends it with the test. Where it
// cannot be had the test is skipped, and fails when CI=true.
func NeedKafka(t testing.TB, opts KafkaOptions) *Kafka {
	t.Helper()
	k, err := StartKafka(t.Context(), t.TempDir(), opts)
	Need(t, "Kafka", err)
	t.Cleanup(func() { k.Close() })
	return k
}

// A SharedKafka is one Kafka for the tests of a package: it starts when the
// first test asks for it. TestMain makes it and closes it at the end:
//
//	func TestMain(m *testing.M) {
//		broker = parts.ShareKafka(parts.KafkaOptions{})
//		code := m.Run()
//		broker.Close()
//		os.Exit(code)
//	}
type SharedKafka struct {
	opts KafkaOptions

	mu    sync.Mutex
	dir   string
	kafka *Kafka
	err   error
}

// ShareKafka does not start anything yet.
func ShareKafka(opts KafkaOptions) *SharedKafka { return &SharedKafka{opts: opts} }

// Need returns the Kafka, or skips the test as [NeedKafka] does.
func (s *SharedKafka) Need(t testing.TB) *Kafka {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kafka == nil && s.err == nil {
		if s.dir, s.err = os.MkdirTemp("", "kar-kafka-*"); s.err == nil {
			s.kafka, s.err = StartKafka(context.Background(), s.dir, s.opts)
		}
	}
	Need(t, "Kafka", s.err)
	return s.kafka
}

// Close ends what has been started.
func (s *SharedKafka) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kafka != nil {
		s.kafka.Close()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}
