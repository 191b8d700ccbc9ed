package runtimetest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/karmesh/kar/runtime"
)

var update = flag.Bool("update", false, "write the stored log of a new level")

// A log as gateways of each level wrote it, with deposed owners, void records
// and repeats: later versions must fold it to the state that was written beside
// it. A new level gets new files; old ones never change.
func TestStoredLogsOfEveryLevel(t *testing.T) {
	for level := 1; level <= runtime.Level; level++ {
		path := filepath.Join("testdata", fmt.Sprintf("level-%d.log.gz", level))
		if _, err := os.Stat(path); os.IsNotExist(err) && *update && level == runtime.Level {
			store(t, path)
		}
		records := stored(t, path)
		if len(records) < 100 {
			t.Fatalf("%s holds %d records", path, len(records))
		}
		cfg := newSim(storedRun()).config(0, "reader")
		core := runtime.New(cfg)
		for i, b := range records {
			if _, err := core.Fold(b); err != nil {
				t.Fatalf("level %d, record %d: %v", level, i, err)
			}
		}
		want, err := os.ReadFile(path + ".state")
		if err != nil {
			t.Fatal(err)
		}
		if got := core.Describe(); got != string(want) {
			t.Errorf("level %d folds to another state:\n%s\n--- want\n%s", level, got, want)
		}
	}
}

// store plays the run whose log is stored, cut short so that work is open.
func store(t *testing.T, path string) {
	s := newSim(storedRun())
	s.run(s.opt.Millis)
	var raw bytes.Buffer
	core := runtime.New(s.config(0, "reader"))
	for _, b := range s.parts[0].full {
		raw.Write(binary.AppendUvarint(nil, uint64(len(b))))
		raw.Write(b)
		if _, err := core.Fold(b); err != nil {
			t.Fatal(err)
		}
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(raw.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{path: zipped.Bytes(), path + ".state": []byte(core.Describe())} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func stored(t *testing.T, path string) (records [][]byte) {
	f, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for r := bytes.NewReader(raw); ; {
		n, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return records
		}
		b := make([]byte, n)
		if _, rerr := io.ReadFull(r, b); err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		records = append(records, b)
	}
}

func storedRun() SimOptions {
	return SimOptions{Seed: 11, Partitions: 4, Nodes: 2, Millis: 30_000}
}
