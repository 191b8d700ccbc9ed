package kafka_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// A topic loses its end, with a disk that was put back. Readers behind the loss, waiting
// or not and at gateways that have read it or not, get everything that is confirmed
// afterwards, also when the topic has grown to more than it had, and are told of the loss.
func TestTopicLosesItsEnd(t *testing.T) {
	for _, later := range []int{2, 20} { // less and more than was lost
		t.Run(fmt.Sprint(later), func(t *testing.T) {
			dir := t.TempDir()
			k, err := parts.StartKafka(t.Context(), dir, parts.KafkaOptions{})
			parts.Need(t, "Kafka", err)
			defer k.Close()
			cfg := config(t, k)
			said := &lines{}
			cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
			ts, other := open(t, cfg).Topics(), open(t, cfg).Topics()
			if _, err := ts.Create(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			publish := func(from, to int) {
				t.Helper()
				for i := from; i < to; i++ {
					eventually(t, "publish", func() bool {
						_, err := ts.Publish(t.Context(), "t", runtime.Event{Body: fmt.Append(nil, i)})
						return err == nil
					})
				}
			}
			fetch := func(ts runtime.Topics, from int64, until string) (got []string, last int64, lost *runtime.Gap) {
				t.Helper()
				for len(got) == 0 || got[len(got)-1] != until {
					found, err := ts.Fetch(t.Context(), "t", from, 100)
					if err != nil {
						t.Logf("fetch from %d: %v", from, err)
						continue
					}
					if found.Missing != nil {
						lost = found.Missing
					}
					for _, e := range found.Events {
						if e.Offset < from {
							t.Fatalf("an event at %d, asked from %d", e.Offset, from)
						}
						got = append(got, string(e.Body))
					}
					from = found.Next
				}
				return got, from, lost
			}
			publish(0, 4)
			var segment string
			if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if filepath.Base(filepath.Dir(path)) == cfg.TopicPrefix+"t-0" && filepath.Ext(path) == ".log" {
					segment = path
				}
				return err
			}); err != nil || segment == "" {
				t.Fatal(segment, err)
			}
			info, err := os.Stat(segment)
			if err != nil {
				t.Fatal(err)
			}
			publish(4, 10)
			for _, ts := range []runtime.Topics{ts, other} {
				if got, next, _ := fetch(ts, 0, "9"); len(got) != 10 || next != 10 {
					t.Fatalf("before: %v up to %d", got, next)
				}
			}
			if err := k.Stop(0); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(segment, info.Size()); err != nil {
				t.Fatal(err)
			}
			if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if filepath.Base(path) == ".kafka_cleanshutdown" { // there is none after a crash
					return os.Remove(path)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if err := k.Start(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			publish(100, 100+later) // before anybody looks
			last := fmt.Sprint(100 + later - 1)
			readers := []runtime.Topics{ts, other, open(t, cfg).Topics()} // the last one learns it from the others
			var next int64
			for i, ts := range readers {
				got, to, lost := fetch(ts, 10, last)
				if len(got) != later || got[0] != "100" {
					t.Errorf("reader %d: %v", i, got)
				}
				if lost == nil || !lost.End || *lost != (runtime.Gap{From: 4, To: 10, End: true}) {
					t.Errorf("reader %d is told of %+v", i, lost)
				}
				if got, _, lost := fetch(ts, 2, last); len(got) != 2+later || lost != nil {
					t.Errorf("reader %d from 2: %v, %v", i, got, lost)
				}
				next = to
			}
			publish(200, 201)
			for i, ts := range readers {
				if got, _, lost := fetch(ts, next, "200"); len(got) != 1 || lost != nil {
					t.Errorf("reader %d goes on: %v, %v", i, got, lost)
				}
			}
			if !strings.Contains(said.String(), "level=ERROR") || !strings.Contains(said.String(), "lost its end") || !strings.Contains(said.String(), "end=4") {
				t.Errorf("the log says: %s", said)
			}
		})
	}
}
