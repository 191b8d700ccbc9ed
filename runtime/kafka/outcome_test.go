package kafka

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
)

// TestOutcomes states what is known about a batch after each answer that
// brokers give to produce requests.
func TestOutcomes(t *testing.T) {
	for code, never := range map[sarama.KError]bool{
		sarama.ErrInvalidMessage:               true,
		sarama.ErrMessageSizeTooLarge:          true,
		sarama.ErrMessageSetSizeTooLarge:       true,
		sarama.ErrNotEnoughReplicas:            true,
		sarama.ErrInvalidRequiredAcks:          true,
		sarama.ErrInvalidTopic:                 true,
		sarama.ErrInvalidTimestamp:             true,
		sarama.ErrInvalidRecord:                true,
		sarama.ErrTopicAuthorizationFailed:     true,
		sarama.ErrClusterAuthorizationFailed:   true,
		sarama.ErrUnsupportedVersion:           true,
		sarama.ErrInvalidRequest:               true,
		sarama.ErrUnsupportedForMessageFormat:  true,
		sarama.ErrUnsupportedCompressionType:   true,
		sarama.ErrPolicyViolation:              true,
		sarama.ErrUnknown:                      false,
		sarama.ErrUnknownTopicOrPartition:      false,
		sarama.ErrLeaderNotAvailable:           false,
		sarama.ErrNotLeaderForPartition:        false,
		sarama.ErrRequestTimedOut:              false,
		sarama.ErrBrokerNotAvailable:           false,
		sarama.ErrReplicaNotAvailable:          false,
		sarama.ErrNetworkException:             false,
		sarama.ErrNotEnoughReplicasAfterAppend: false,
		sarama.ErrKafkaStorageError:            false,
		sarama.ErrFencedLeaderEpoch:            false,
		sarama.ErrThrottlingQuotaExceeded:      false,
		sarama.ErrDuplicateSequenceNumber:      false,
		sarama.KError(12345):                   false,
	} {
		if got := neverAppended(code); got != never {
			t.Errorf("%d (%v): never appended is %v", code, code, got)
		}
	}
}

func TestFit(t *testing.T) {
	batch := [][]byte{make([]byte, 100), make([]byte, 100), make([]byte, 100)}
	for limit, want := range map[int]int{1000: 3, 433: 3, 432: 2, 309: 2, 308: 1, 10: 1} {
		if got := fit(batch, limit); got != want {
			t.Errorf("limit %d: %d records, want %d", limit, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	var s sizes
	record := bytes.Repeat([]byte{'x'}, 1000)
	for i := range uint64(1000) {
		s.add(i, [][]byte{record})
		s.add(i, [][]byte{record}) // read again
	}
	for _, c := range []struct{ start, want uint64 }{{0, 1000}, {100, 900}, {900, 100}, {50, 100}, {999, 1}, {1000, 0}} {
		s.trim(c.start)
		if off := s.held() - int64(c.want*1000); off < 0 || off > stride+1000 || c.want == 0 && off != 0 {
			t.Errorf("trimmed before %d: %d bytes held, not %d", c.start, s.held(), c.want*1000)
		}
	}
	s.add(1000, [][]byte{record})
	if s.held() != 1000 {
		t.Errorf("%d bytes held after all was trimmed and one appended", s.held())
	}
}

func TestNames(t *testing.T) {
	for _, prefix := range []string{"", "p."} {
		c := Config{TopicPrefix: prefix}
		seen := map[string]string{}
		for _, topic := range []string{"a", "a.b", "a_b", "..", ".", "", "a b", "a/b", "a_20b", "ü", "\x00", "log"} {
			name, err := c.kafkaName(topic)
			if err != nil || !legal(name) || seen[name] != "" {
				t.Errorf("%q is %q in Kafka, %v", topic, name, err)
			}
			seen[name] = fmt.Sprint("by ", topic)
			if back, ok := c.eventName(name); !ok || back != topic {
				t.Errorf("%q is %q in Kafka and comes back as %q, %v", topic, name, back, ok)
			}
		}
		for _, name := range []string{"_kar.mesh.log", "__consumer_offsets", "_kar.._", "_kar.._zz"} {
			if topic, ok := c.eventName(prefix + name); ok {
				t.Errorf("%s is shown as the topic %q", name, topic)
			}
		}
	}
}
