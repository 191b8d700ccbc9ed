package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// transaction writes events in a transaction of their own, and leaves its end to the caller.
func transaction(t *testing.T, client sarama.Client, id, topic string, bodies ...string) sarama.SyncProducer {
	t.Helper()
	c := *client.Config()
	c.Producer.Transaction.ID, c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests = id, true, sarama.WaitForAll, 1
	own, err := sarama.NewClient([]string{client.Brokers()[0].Addr()}, &c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	p, err := sarama.NewSyncProducerFromClient(own)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.BeginTxn(); err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies {
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(b)}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// Events of aborted transactions are none, and those of an open one wait for its end.
func TestReadCommitted(t *testing.T) {
	k := broker.Need(t)
	cfg := config(t, k)
	name := cfg.TopicPrefix + "orders"
	cfg.TopicPrefix = ""
	ts := open(t, cfg).Topics()
	if _, err := ts.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	c := client(t, k)
	end := func(how func() error) {
		t.Helper()
		if err := how(); err != nil {
			t.Fatal(err)
		}
	}
	one := transaction(t, c, name+"-1", name, "a", "b")
	end(one.CommitTxn) // a 0, b 1, its mark 2
	two := transaction(t, c, name+"-2", name, "x", "y")
	end(two.AbortTxn) // 3, 4, mark 5
	end(two.BeginTxn)
	if _, _, err := two.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder("c")}); err != nil {
		t.Fatal(err)
	}
	end(two.CommitTxn) // 6, mark 7
	fetch := func(from int64, patience time.Duration) (got string, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		found, err := ts.Fetch(ctx, name, from, 100)
		for _, e := range found.Events {
			got += fmt.Sprintf("%s%d ", e.Body, e.Offset)
		}
		return got, err
	}
	// Kafka answers a commit before it has written the mark: the last one is waited for.
	if got, err := fetch(6, 20*time.Second); err != nil || got != "c6 " {
		t.Fatalf("from 6: %q, %v", got, err)
	}
	for from, want := range map[int64]string{0: "a0 b1 c6 ", 2: "c6 ", 4: "c6 "} {
		if got, err := fetch(from, 20*time.Second); err != nil || got != want {
			t.Errorf("from %d: %q, %v; want %q", from, got, err, want)
		}
	}
	open := transaction(t, c, name+"-3", name, "d") // 8
	transaction(t, c, name+"-4", name, "z")         // 9
	if got, err := fetch(8, time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of an open transaction: %q, %v", got, err)
	}
	waiting := make(chan string, 1)
	go func() {
		got, err := fetch(8, 20*time.Second)
		waiting <- fmt.Sprint(got, err)
	}()
	end(open.CommitTxn)
	if got := <-waiting; got != "d8 <nil>" {
		t.Errorf("when it has ended: %q", got)
	}
}

// Retention removes the mark of a transaction that a Fetch has looked at: no event is
// missing. Of one that was not looked at nobody knows that it was a mark.
func TestMarkThatRetentionRemoves(t *testing.T) {
	k := broker.Need(t)
	cfg := config(t, k)
	name := cfg.TopicPrefix + "orders"
	cfg.TopicPrefix = ""
	ts := open(t, cfg).Topics()
	if _, err := ts.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	p := transaction(t, client(t, k), name+"-1", name, "a")
	if err := p.CommitTxn(); err != nil { // a 0, its mark 1
		t.Fatal(err)
	}
	first, err := ts.Fetch(t.Context(), name, 0, 100)
	if err != nil || len(first.Events) != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	eventually(t, "the mark is there", func() bool {
		_, end, err := ts.Bounds(t.Context(), name)
		return err == nil && end == 2
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	none, err := ts.Fetch(ctx, name, 1, 100)
	if !errors.Is(err, context.DeadlineExceeded) || none.Next != 2 || none.Missing != nil {
		t.Fatalf("looked at the mark: %+v, %v", none, err)
	}
	if err := admin(t, k).DeleteRecords(name, map[int32]int64{0: 2}); err != nil {
		t.Fatal(err)
	}
	if err := p.BeginTxn(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder("b")}); err != nil {
		t.Fatal(err)
	}
	if err := p.CommitTxn(); err != nil { // b 2, its mark 3
		t.Fatal(err)
	}
	if got, err := ts.Fetch(t.Context(), name, none.Next, 100); err != nil || got.Missing != nil || len(got.Events) != 1 {
		t.Errorf("who has looked before: %+v, %v", got, err)
	}
	if got, err := ts.Fetch(t.Context(), name, 1, 100); err != nil || got.Missing == nil || *got.Missing != (runtime.Gap{From: 1, To: 2}) || len(got.Events) != 1 {
		t.Errorf("who has not looked: %+v, %v", got, err)
	}
}
