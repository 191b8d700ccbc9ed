package embedded

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestMain turns the test binary into the process that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("KAR_TEST_APPEND_TO"); dir != "" {
		if err := appendForever(dir); err != nil {
			fmt.Println("error", err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// appendForever prints each acknowledgement of the log and of the topic "t".
func appendForever(dir string) error {
	d, err := Open(dir, Options{SegmentBytes: 64 << 10})
	if err != nil {
		return err
	}
	ctx := context.Background()
	l, _ := d.Log(0)
	if _, err := d.Topics().Create(ctx, "t"); err != nil {
		return err
	}
	_, end, _ := l.Bounds(ctx)
	at, _ := d.Store().Applied(ctx, 0)
	for i := int(end); ; i++ {
		if _, _, err := l.Append(ctx, [][]byte{record(i)}); err != nil {
			return err
		}
		fmt.Println("log", i)
		if _, err := d.Store().Apply(ctx, 0, at, uint64(i)+1, []runtime.Mutation{{Key: fmt.Append(nil, i), Value: record(i)}}); err != nil {
			return err
		}
		at = uint64(i) + 1
		offset, err := d.Topics().Publish(ctx, "t", runtime.Event{Body: record(i)})
		if err != nil {
			return err
		}
		fmt.Println("event", offset)
		if i%20 == 0 {
			durable, err := d.Store().Sync(ctx, 0)
			if err != nil {
				return err
			}
			if err := l.Trim(ctx, durable); err != nil {
				return err
			}
			fmt.Println("durable", durable)
		}
	}
}

// TestKill kills a process that appends, again and again on the same folder.
func TestKill(t *testing.T) {
	dir := t.TempDir() + "/state"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]int{"log": -1, "event": -1, "durable": 0}
	for round := range 6 {
		child := exec.Command(self)
		child.Env = append(os.Environ(), "KAR_TEST_APPEND_TO="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ { // to the end: what was printed was acknowledged
			kind, rest, _ := strings.Cut(lines.Text(), " ")
			if kind == "error" {
				t.Fatal(rest)
			}
			var value int
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatal(lines.Text(), err)
			}
			last[kind] = value
			if n == 100+37*round {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait()
		checkAfterKill(t, dir, last)
	}
}

func checkAfterKill(t *testing.T, dir string, last map[string]int) {
	t.Helper()
	d, err := Open(dir, Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, _ := d.Log(0)
	_, end, err := l.Bounds(t.Context())
	if err != nil || int(end) < last["log"]+1 || int(end) > last["log"]+2 {
		t.Fatalf("log ends at %d, %v; %d was acknowledged", end, err, last["log"])
	}
	if err := l.Read(t.Context(), 0, func(offset uint64, r []byte) error {
		if string(r) != string(record(int(offset))) {
			return fmt.Errorf("record %d is another", offset)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	applied, err := d.Store().Applied(t.Context(), 0)
	if err != nil || int(applied) < last["durable"] {
		t.Fatalf("store at %d, %v; %d was durable", applied, err, last["durable"])
	}
	for at := applied; at < end; at++ { // as the engine does
		w := []runtime.Mutation{{Key: fmt.Append(nil, at), Value: record(int(at))}}
		if _, err := d.Store().Apply(t.Context(), 0, at, at+1, w); err != nil {
			t.Fatal(err)
		}
	}
	_, next, err := d.Topics().Bounds(t.Context(), "t")
	if err != nil || int(next) < last["event"]+1 || int(next) > last["event"]+2 {
		t.Fatalf("topic ends at %d, %v; %d was acknowledged", next, err, last["event"])
	}
}
