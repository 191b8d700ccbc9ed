package redis

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// field is an actor's state of one small entry, as the rules write it.
func field(i int) runtime.Mutation {
	p := runtime.ActorPrefix(runtime.Actor{App: "app", Type: "Account", ID: fmt.Sprintf("%010d", i)}, 1)
	return runtime.Mutation{Key: runtime.FieldKey(p, &runtime.Field{Key: "balance"}), Value: []byte("1234567890")}
}

func BenchmarkApply(b *testing.B) {
	server := parts.NeedRedis(b, parts.RedisOptions{})
	for _, n := range []int{1, 100, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			r := checked(b, at(b, server))
			writes := make([]runtime.Mutation, n)
			now, i := uint64(0), 0
			for b.Loop() {
				for j := range writes {
					writes[j] = field((i * 7919) % 100_000)
					i++
				}
				apply(b, r, now, now+1, writes...)
				now++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/write")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	server := parts.NeedRedis(b, parts.RedisOptions{})
	r := checked(b, at(b, server))
	for i := range 100 {
		writes := make([]runtime.Mutation, 1000)
		for j := range writes {
			writes[j] = field(i*1000 + j)
		}
		apply(b, r, uint64(i), uint64(i+1), writes...)
	}
	keys := make([][]byte, 100_000)
	for i := range keys {
		keys[i] = field(i).Key
	}
	i := 0
	for b.Loop() {
		err := r.Read(b.Context(), 0, func(s runtime.Snapshot) error {
			v, err := s.Get(keys[(i*7919)%len(keys)])
			if err == nil && v == nil {
				err = fmt.Errorf("entry %d is absent", i)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// TestMemory: what an idle actor with one small entry costs in Redis.
func TestMemory(t *testing.T) {
	const actors = 100_000
	r := checked(t, at(t, parts.NeedRedis(t, parts.RedisOptions{})))
	bytes := 0
	for i := range actors / 1000 {
		writes := make([]runtime.Mutation, 1000)
		for j := range writes {
			writes[j] = field(i*1000 + j)
			bytes += len(writes[j].Key) + len(writes[j].Value)
		}
		apply(t, r, uint64(i), uint64(i+1), writes...)
	}
	used, err := r.client.MemoryUsage(t.Context(), r.parts[0].keys[0], 0).Result()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes for each of %d actors with one entry, %d of them key and value", used/actors, actors, bytes/actors)
	if used/actors > 220 {
		t.Errorf("an actor with one small entry takes %d bytes", used/actors)
	}
}
