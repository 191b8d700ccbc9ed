package runtime

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The records of each level as a gateway of that level wrote them: every kind,
// one in a line. Later versions must read them for ever, and write what they
// read back without loss. A new level gets a new file; old files never change.
func TestStoredRecordsOfEveryLevel(t *testing.T) {
	for level := 1; level <= Level; level++ {
		path := filepath.Join("testdata", "stored", fmt.Sprintf("level-%d.records", level))
		if _, err := os.Stat(path); os.IsNotExist(err) && *update && level == Level {
			var b bytes.Buffer
			for _, r := range sampleRecords() {
				fmt.Fprintf(&b, "%T %x\n", r.Body, EncodeRecord(r))
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[uint64]bool{}
		for line := range strings.Lines(string(text)) {
			name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatal(err)
			}
			r, err := DecodeRecord(b)
			if err != nil {
				t.Errorf("level %d, %s: %v", level, name, err)
				continue
			}
			kinds[kindOf(r.Body)] = true
			if again := EncodeRecord(r); !bytes.Equal(again, b) {
				t.Errorf("level %d, %s: written again as\n%x, was\n%x", level, name, again, b)
			}
		}
		if level < Level {
			continue
		}
		for _, r := range sampleRecords() {
			if !kinds[kindOf(r.Body)] {
				t.Errorf("level %d writes %T, which is not among the stored records: it needs a new level", level, r.Body)
			}
		}
		for kind := uint64(1); newBody(kind) != nil; kind++ {
			if !kinds[kind] {
				t.Errorf("no stored record of kind %d", kind)
			}
		}
	}
}
