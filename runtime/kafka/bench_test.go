package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// BenchmarkAppend is one append after the other on one partition, beside the
// same produce request without anything around it.
func BenchmarkAppend(b *testing.B) {
	k := parts.NeedKafka(b, parts.KafkaOptions{})
	cfg := config(b, k)
	l := openLog(b, open(b, cfg), 0)
	for _, n := range []int{1, 10, 100, 1000} {
		batch := make([][]byte, n)
		for i := range batch {
			batch[i] = bytes.Repeat([]byte{'x'}, 300)
		}
		b.Run(fmt.Sprint(n, " records of 300 B"), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := l.Append(context.WithoutCancel(b.Context()), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint(n, " records of 300 B, bare"), func(b *testing.B) {
			s := sarama.NewConfig()
			s.Version = sarama.V4_0_0_0
			client, err := sarama.NewClient(k.Brokers(), s)
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			leader, err := client.Leader(logTopic(cfg), 1)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				r := &sarama.ProduceRequest{Version: 7, RequiredAcks: sarama.WaitForAll, Timeout: 1000}
				set := &sarama.RecordBatch{Version: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, LastOffsetDelta: int32(n - 1)}
				for i, v := range batch {
					set.Records = append(set.Records, &sarama.Record{Value: v, OffsetDelta: int64(i)})
				}
				r.AddBatch(logTopic(cfg), 1, set)
				if answer, err := leader.Produce(r); err != nil || answer.GetBlock(logTopic(cfg), 1).Err != sarama.ErrNoError {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendAll appends to 64 partitions at a time.
func BenchmarkAppendAll(b *testing.B) {
	k := parts.NeedKafka(b, parts.KafkaOptions{})
	for _, connections := range []int{1, 2, 4, 16} {
		b.Run(fmt.Sprint(connections, " connections"), func(b *testing.B) {
			cfg := config(b, k)
			cfg.Partitions, cfg.Connections = 64, connections
			c := open(b, cfg)
			record := bytes.Repeat([]byte{'x'}, 300)
			round := func() {
				var group sync.WaitGroup
				for p := range cfg.Partitions {
					l := openLog(b, c, uint16(p))
					group.Go(func() {
						for range 10 {
							if _, _, err := l.Append(b.Context(), [][]byte{record, record}); err != nil {
								b.Error(err)
							}
						}
					})
				}
				group.Wait()
			}
			round() // the first append to a partition makes the broker write a file and sync it
			for b.Loop() {
				round()
			}
			b.ReportMetric(float64(b.N*640)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// BenchmarkRead reads a log of 1,000,000 records of 300 bytes, as recovery does.
func BenchmarkRead(b *testing.B) {
	cfg := config(b, parts.NeedKafka(b, parts.KafkaOptions{}))
	l := openLog(b, open(b, cfg), 0)
	batch := make([][]byte, 100)
	for i := range batch {
		batch[i] = bytes.Repeat([]byte{'x'}, 300)
	}
	for range 10_000 {
		if _, _, err := l.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n, size := 0, 0
		if err := l.Read(b.Context(), 0, func(_ uint64, r []byte) error { n++; size += len(r); return nil }); err != nil || n != 1_000_000 {
			b.Fatalf("%d records, %v", n, err)
		}
	}
}
