package kafka_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// quotas of one client id of this test's own.
func quotas(t *testing.T, k *parts.Kafka) (client string, set func(key string, rate float64), remove func(key string)) {
	t.Helper()
	a := admin(t, k)
	client = fmt.Sprintf("client-%d", time.Now().UnixNano())
	alter := func(op sarama.ClientQuotasOp) {
		t.Helper()
		of := []sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: client}}
		if err := a.AlterClientQuotas(of, op, false); err != nil {
			t.Fatal(err)
		}
	}
	set = func(key string, rate float64) { alter(sarama.ClientQuotasOp{Key: key, Value: rate}) }
	remove = func(key string) { alter(sarama.ClientQuotasOp{Key: key, Remove: true}) }
	return client, set, remove
}

// TestProducerQuota: Kafka asks for a wait of minutes, and gets one that a lease bears. So
// appends go on, and at full speed as soon as the quota is gone.
func TestProducerQuota(t *testing.T) {
	k := broker.Need(t)
	client, set, remove := quotas(t, k)
	var said lines
	underLoad(t, k, 4, func(progress func(string)) {
		progress("before the quota")
		set("producer_byte_rate", 2000)
		eventually(t, "it is said", func() bool { return strings.Contains(said.String(), "level=WARN") })
		progress("under the quota")
		remove("producer_byte_rate")
		began := time.Now()
		progress("after the quota")
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("it goes on %v after the quota is gone", d)
		}
		eventually(t, "the end is said", func() bool { return strings.Contains(said.String(), "throttles this gateway no longer") })
	}, func(cfg *kafka.Config) {
		cfg.ClientID, cfg.Logger = client, slog.New(slog.NewTextHandler(&said, nil))
	})
	text := said.String()
	for _, words := range []string{"Kafka throttles this gateway (a quota)", client, "kafka-configs.sh", "wait="} {
		if !strings.Contains(text, words) {
			t.Errorf("the log does not say %q:\n%s", words, text)
		}
	}
	if n := strings.Count(text, "level=WARN"); n > 3 {
		t.Errorf("it is said %d times:\n%s", n, text)
	}
}

// TestQuotaOfEvents: publishers are not put to sleep either.
func TestQuotaOfEvents(t *testing.T) {
	k := broker.Need(t)
	client, set, remove := quotas(t, k)
	cfg := config(t, k)
	cfg.ClientID = client
	c := open(t, cfg)
	ts := c.Topics()
	if _, err := ts.Create(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	publish := func() {
		t.Helper()
		began := time.Now()
		if _, err := ts.Publish(t.Context(), "t", runtime.Event{Body: make([]byte, 10_000)}); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > cfg.Timeout {
			t.Errorf("an event took %v", d)
		}
	}
	set("producer_byte_rate", 100)
	for range 5 {
		publish()
	}
	wantCode(t, c.Throttled(), runtime.CodeKafkaQuota, client)
	remove("producer_byte_rate")
	publish()
}

// TestConsumerQuota: a log is read in spite of a quota, however long that takes.
func TestConsumerQuota(t *testing.T) {
	k := broker.Need(t)
	client, set, remove := quotas(t, k)
	cfg := config(t, k)
	cfg.ClientID, cfg.Timeout = client, time.Second
	c := open(t, cfg)
	l := openLog(t, c, 0)
	const n = 12
	for range n {
		if _, _, err := l.Append(t.Context(), [][]byte{make([]byte, 1<<20)}); err != nil {
			t.Fatal(err)
		}
	}
	set("consumer_byte_rate", 200_000)
	read := make(chan error, 1)
	var count int
	go func() {
		read <- l.Read(t.Context(), 0, func(uint64, []byte) error { count++; return nil })
	}()
	select {
	case err := <-read:
		t.Logf("read %d: %v", count, err)
		if err != nil {
			t.Error("while it is throttled:", err)
		}
	case <-time.After(8 * time.Second):
		remove("consumer_byte_rate")
		if err := <-read; err != nil || count != n {
			t.Errorf("%d records, %v", count, err)
		}
	}
	began := time.Now()
	if _, _, err := l.Bounds(t.Context()); err != nil || time.Since(began) > cfg.Timeout {
		t.Errorf("bounds after %v: %v", time.Since(began), err)
	}
}
