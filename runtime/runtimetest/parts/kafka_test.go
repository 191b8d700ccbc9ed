package parts_test

import (
	"net"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

func TestKafkaStops(t *testing.T) {
	began := time.Now()
	k := parts.NeedKafka(t, parts.KafkaOptions{Secure: true})
	t.Logf("started after %v", time.Since(began))
	answers := func() bool {
		c, err := net.Dial("tcp", k.Brokers()[0])
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	for _, end := range []func(int) error{k.Kill, k.Stop} {
		if !answers() {
			t.Fatal("a Kafka that has started does not answer")
		}
		if err := end(0); err != nil {
			t.Fatal(err)
		}
		if answers() {
			t.Fatal("a Kafka that has ended answers")
		}
		began = time.Now()
		if err := k.Start(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		t.Logf("started again after %v", time.Since(began))
	}
}
