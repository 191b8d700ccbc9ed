package kafka_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// One partition has lost its end in a crash of its broker: it stops, and the
// others go on.
func TestLostTailOfOnePartition(t *testing.T) {
	dir := t.TempDir()
	k, err := parts.StartKafka(t.Context(), dir, parts.KafkaOptions{})
	parts.Need(t, "Kafka", err)
	defer k.Close()
	cfg := config(t, k)
	c := open(t, cfg)
	const hurt = 1
	var logs []runtime.Log
	for p := range uint16(4) {
		l := openLog(t, c, p)
		logs = append(logs, l)
		for i := range uint64(10) {
			appendAt(t, l, i, "record")
		}
	}
	if err := k.Stop(0); err != nil {
		t.Fatal(err)
	}
	cut := false
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case filepath.Base(filepath.Dir(path)) == logTopic(cfg)+"-1" && filepath.Ext(path) == ".log":
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			cut = true
			return os.Truncate(path, info.Size()/2)
		case filepath.Base(path) == ".kafka_cleanshutdown": // there is none after a crash
			return os.Remove(path)
		}
		return nil
	}); err != nil || !cut {
		t.Fatal(cut, err)
	}
	if err := k.Start(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	again := func(p int) error {
		_, err := appendAgain(logs[p], []byte("more"))
		return err
	}
	wantCode(t, again(hurt), runtime.CodeDamaged, "partition 1")
	wantCode(t, logs[hurt].Read(t.Context(), 0, func(uint64, []byte) error { return nil }), runtime.CodeDamaged)
	for p, l := range logs {
		if p == hurt {
			continue
		}
		if err := again(p); err != nil {
			t.Errorf("partition %d: %v", p, err)
		}
		if err := l.Read(t.Context(), 0, func(uint64, []byte) error { return nil }); err != nil {
			t.Errorf("partition %d: %v", p, err)
		}
	}
	if err := c.Err(); err != nil {
		t.Errorf("the whole mesh: %v", err)
	}
}
