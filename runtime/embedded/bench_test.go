package embedded

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// BenchmarkAppend prints each append as a multiple of a bare write and fsync of
// as many bytes, measured in turns with it.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			l, _ := d.Log(0)
			batch := make([][]byte, n)
			for i := range batch {
				batch[i] = bytes.Repeat([]byte{'x'}, 400)
			}
			bare, err := os.Create(filepath.Join(b.TempDir(), "bare"))
			if err != nil {
				b.Fatal(err)
			}
			defer bare.Close()
			flat := bytes.Join(batch, nil)
			var floor, ours time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := bare.Write(flat); err != nil {
					b.Fatal(err)
				}
				if err := bare.Sync(); err != nil {
					b.Fatal(err)
				}
				between := time.Now()
				if _, _, err := l.Append(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				floor += between.Sub(began)
				ours += time.Since(between)
			}
			b.ReportMetric(float64(floor.Microseconds())/float64(b.N), "floor-µs")
			b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "append-µs")
			b.ReportMetric(float64(ours)/float64(floor), "ratio")
		})
	}
}

func BenchmarkOpenFresh(b *testing.B) {
	for i := 0; b.Loop(); i++ {
		d, err := Open(filepath.Join(b.TempDir(), fmt.Sprint(i)), Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Close()
		b.StartTimer()
	}
}

func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		d, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Close()
		b.StartTimer()
	}
}

// BenchmarkRead reads a million records of 60 bytes; Open does so too, for damage.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	d, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	l, _ := d.Log(0)
	batch := make([][]byte, 1000)
	for i := range batch {
		batch[i] = bytes.Repeat([]byte{'x'}, 60)
	}
	for range 1000 {
		if _, _, err := l.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	d.Close()
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if d, err = Open(dir, Options{}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			d.Close()
			b.StartTimer()
		}
	})
	if d, err = Open(dir, Options{}); err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	l, _ = d.Log(0)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			n := 0
			if err := l.Read(b.Context(), 0, func(uint64, []byte) error { n++; return nil }); err != nil || n != 1e6 {
				b.Fatal(n, err)
			}
		}
	})
}

func BenchmarkStore(b *testing.B) {
	d, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	s := d.Store()
	const keys = 100_000
	name := func(i int) []byte { return fmt.Appendf(nil, "app/actor/%06d/key", i) }
	for i := range uint64(keys) {
		w := []runtime.Mutation{{Key: name(int(i)), Value: bytes.Repeat([]byte{'v'}, 100)}}
		if _, err := s.Apply(b.Context(), 0, i, i+1, w); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.Sync(b.Context(), 0); err != nil {
		b.Fatal(err)
	}
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			err := s.Read(b.Context(), 0, func(snap runtime.Snapshot) error {
				v, err := snap.Get(name(i * 7919 % keys))
				if err == nil && len(v) != 100 {
					err = fmt.Errorf("%d bytes", len(v))
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	at := uint64(keys)
	b.Run("apply", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w := []runtime.Mutation{{Key: name(i * 7919 % keys), Value: bytes.Repeat([]byte{'w'}, 100)}}
			if _, err := s.Apply(b.Context(), 0, at, at+1, w); err != nil {
				b.Fatal(err)
			}
			at++
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	d, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	ts := d.Topics()
	if _, err := ts.Create(b.Context(), "t"); err != nil {
		b.Fatal(err)
	}
	e := runtime.Event{Body: bytes.Repeat([]byte{'x'}, 400)}
	b.Run("1", func(b *testing.B) {
		for b.Loop() {
			if _, err := ts.Publish(b.Context(), "t", e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := ts.Publish(b.Context(), "t", e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
