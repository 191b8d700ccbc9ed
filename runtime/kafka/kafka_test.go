package kafka_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
	"github.com/karmesh/kar/runtime/runtimetest"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// broker is shared by the tests that do not hurt it; TestMain ends it.
var broker *parts.SharedKafka

func TestMain(m *testing.M) {
	broker = parts.ShareKafka(parts.KafkaOptions{Secure: true, Properties: map[string]string{
		"listener.name.sasltls.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
	}})
	code := m.Run()
	broker.Close()
	os.Exit(code)
}

// config is a mesh of its own for each test.
func config(t testing.TB, k *parts.Kafka) kafka.Config {
	name := strings.NewReplacer("/", "-", "#", "-", ".", "-").Replace(t.Name())
	return kafka.Config{
		Brokers: k.Brokers(), Mesh: fmt.Sprintf("%.60s-%d", name, time.Now().UnixNano()), Partitions: 4, Timeout: 3 * time.Second,
		TopicPrefix: fmt.Sprintf("t%d.", time.Now().UnixNano()),
	}
}

func open(t testing.TB, cfg kafka.Config) *kafka.Cluster {
	t.Helper()
	c, err := kafka.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func openLog(t testing.TB, c *kafka.Cluster, partition uint16) runtime.Log {
	t.Helper()
	l, err := c.Log(partition)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLogSuite(t *testing.T) {
	k := broker.Need(t)
	t.Run("a mesh for each law", func(t *testing.T) {
		runtimetest.LogSuite(t, func(t *testing.T) runtimetest.LogOpener {
			cfg := config(t, k)
			return func(t *testing.T) runtime.Log { return openLog(t, open(t, cfg), 3) }
		})
	})
	t.Run("a partition for each law", func(t *testing.T) {
		cfg := config(t, k)
		cfg.Partitions = 64
		partition := uint16(64)
		runtimetest.LogSuite(t, func(*testing.T) runtimetest.LogOpener {
			partition -= 5
			return func(t *testing.T) runtime.Log { return openLog(t, open(t, cfg), partition) }
		})
	})
}

func TestTopicsSuite(t *testing.T) {
	k := broker.Need(t)
	runtimetest.TopicsSuite(t, func(t *testing.T) runtimetest.TopicsOpener {
		cfg := config(t, k)
		return func(t *testing.T) runtime.Topics { return open(t, cfg).Topics() }
	})
}
