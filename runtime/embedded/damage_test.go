package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// files is the content of a folder by path below it.
type files map[string][]byte

// readFiles holds the files of a folder whose database may be open: it reads
// until nothing has come, gone or changed between two readings.
func readFiles(t *testing.T, dir string) files {
	t.Helper()
	var last files
	for {
		all, err := readOnce(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			last = nil // a file went while the folder was read
		case err != nil:
			t.Fatal(err)
		case last != nil && maps.EqualFunc(last, all, bytes.Equal):
			return all
		default:
			last = all
		}
	}
}

func readOnce(dir string) (files, error) {
	all := files{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = b
		return err
	})
	return all, err
}

func (f files) write(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, b := range f {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// with is a copy in which one file is another.
func (f files) with(name string, content []byte) files {
	c := files{}
	for n, b := range f {
		c[n] = b
	}
	if c[name] = content; content == nil {
		delete(c, name)
	}
	return c
}

func (f files) one(t *testing.T, pattern string) string {
	t.Helper()
	found := ""
	for name := range f {
		if ok, _ := filepath.Match(pattern, name); ok && name > found {
			found = name
		}
	}
	if found == "" {
		t.Fatalf("no file %s", pattern)
	}
	return found
}

// reading is what a folder gives: the log's records, the store's entries, the
// events; or the error that it is refused with.
func reading(t *testing.T, dir string) (string, error) {
	t.Helper()
	d, err := Open(dir, Options{FailedSync: func(err error) { t.Errorf("failed sync: %v", err) }})
	if err != nil {
		return "", err
	}
	defer d.Close()
	var b strings.Builder
	l, _ := d.Log(0)
	err = l.Read(t.Context(), 0, func(offset uint64, r []byte) error {
		fmt.Fprintf(&b, "log %d %s\n", offset, r)
		return nil
	})
	err = errors.Join(err, d.Store().Read(t.Context(), 0, func(s runtime.Snapshot) error {
		fmt.Fprintf(&b, "store at %d\n", s.Applied())
		return s.Scan(nil, func(k, v []byte) bool { fmt.Fprintf(&b, "entry %s %s\n", k, v); return true })
	}))
	names, _ := d.Topics().List(t.Context())
	for _, name := range names {
		got, ferr := d.Topics().Fetch(t.Context(), name, 0, 1000)
		err = errors.Join(err, ferr)
		for _, e := range got.Events {
			fmt.Fprintf(&b, "event %s %d %s\n", name, e.Offset, e.Body)
		}
	}
	return b.String(), err
}

// lived makes a folder with some content and returns it as it was before the
// last append and after it, both as a killed process leaves it.
func lived(t *testing.T) (before, after files) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, _ := d.Log(0)
	if _, err := d.Topics().Create(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(12) {
		if i == 11 {
			before = readFiles(t, dir)
		}
		if _, _, err := l.Append(t.Context(), [][]byte{record(int(2 * i)), record(int(2*i + 1))}); err != nil {
			t.Fatal(err)
		}
		w := []runtime.Mutation{{Key: fmt.Appendf(nil, "k%02d", i), Value: record(int(i))}}
		if _, err := d.Store().Apply(t.Context(), 0, 2*i, 2*i+2, w); err != nil {
			t.Fatal(err)
		}
		if i < 11 {
			if _, err := d.Topics().Publish(t.Context(), "t", runtime.Event{Body: record(int(i))}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 6 {
			if _, err := d.Store().Sync(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return before, readFiles(t, dir)
}

func frameEnd(t *testing.T, b []byte) int {
	t.Helper()
	end := len(b)
	for end > 0 && b[end-1] == 0 {
		end--
	}
	return end
}

func wantDamage(t *testing.T, err error, file, what string) {
	t.Helper()
	coded := (*runtime.Error)(nil)
	if !errors.As(err, &coded) || coded.Code != runtime.CodeDamaged || !strings.Contains(coded.Detail, file) {
		t.Fatalf("%s: %v; want %s naming %s", what, err, runtime.CodeDamaged, file)
	}
}

// TestTornAppend cuts the last append at every byte, as a power loss before it
// was acknowledged does: everything before it is there, and of it all or nothing.
func TestTornAppend(t *testing.T) {
	before, after := lived(t)
	log := after.one(t, "log/p0000-*.log")
	dir := filepath.Join(t.TempDir(), "state")
	before.write(t, dir)
	want, err := reading(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	whole, start := frameEnd(t, after[log]), frameEnd(t, before[log])
	for cut := start; cut < whole; cut++ {
		for kind, tail := range [][]byte{nil, make([]byte, whole-cut), []byte(strings.Repeat("garbage", 200))} {
			if kind != cut%3 && cut != start && cut != whole-1 {
				continue
			}
			before.with(log, append(append([]byte(nil), after[log][:cut]...), tail...)).write(t, dir)
			for range 2 { // the second time it is clean
				if got, err := reading(t, dir); err != nil || got != want {
					t.Fatalf("cut at byte %d of %d (kind %d): %v\n%s", cut, whole, kind, err, got)
				}
			}
		}
	}
	before.with(log, after[log]).write(t, dir)
	if got, err := reading(t, dir); err != nil || !strings.Contains(got, "log 23 ") {
		t.Fatalf("the whole append without its acknowledgement: %v\n%s", err, got)
	}
}

// TestDamagedLog cuts acknowledged data at every byte and flips a bit in every
// byte: the folder is refused, the file is named, and nothing is changed.
func TestDamagedLog(t *testing.T) {
	_, after := lived(t)
	dir := filepath.Join(t.TempDir(), "state")
	for _, pattern := range []string{"log/p0000-*.log", "log/topics-*.log"} {
		log := after.one(t, pattern)
		end := frameEnd(t, after[log])
		after.write(t, dir) // once: what is refused stays as it is
		refused := func(content []byte, what string, at int) {
			path := filepath.Join(dir, log)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := reading(t, dir)
			wantDamage(t, err, log, fmt.Sprintf("%s byte %d of %d", what, at, end))
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
				t.Fatalf("%s byte %d: the refused file was changed, %v", what, at, err)
			}
		}
		for at := range end {
			if at%3 == 0 || at > end-30 {
				refused(after[log][:at], "cut at", at)
			}
			flipped := append([]byte(nil), after[log][:end+100]...)
			flipped[at] ^= 1 << (at % 8)
			refused(flipped, "bit flipped in", at)
		}
		for name, b := range readFiles(t, dir) {
			if name != log && name != "LOCK" && !bytes.Equal(b, after[name]) {
				t.Errorf("%s was changed by an open that was refused", name)
			}
		}
	}
}

// TestDamagedLogWithoutWitness: with a witness that lags, as after a power
// loss, damage before the last append is still told from a torn one.
func TestDamagedLogWithoutWitness(t *testing.T) {
	before, after := lived(t)
	log, witness := after.one(t, "log/p0000-*.log"), "log/p0000.witness"
	dir := filepath.Join(t.TempDir(), "state")
	early := append(encodeWitness(1, witnessState{}), make([]byte, 2*witnessSlot)...)
	after.with(witness, early).write(t, dir)
	for at := segmentHeader; at < frameEnd(t, before[log]); at += 2 {
		flipped := append([]byte(nil), after[log][:frameEnd(t, after[log])+100]...)
		flipped[at] ^= 1 << (at % 8)
		if err := os.WriteFile(filepath.Join(dir, log), flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := reading(t, dir)
		wantDamage(t, err, log, fmt.Sprintf("bit flipped in byte %d", at))
	}
}

// TestDamagedView flips bits in Pebble's files: refused, or nothing is missing.
func TestDamagedView(t *testing.T) {
	_, after := lived(t)
	dir := filepath.Join(t.TempDir(), "state")
	after.write(t, dir)
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Store().Sync(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	d.topics.trim(d.topicsPosition(t))
	whole := readFiles(t, dir)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	whole.write(t, dir)
	want, err := reading(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for name, b := range whole {
		if !strings.HasPrefix(name, "view/") || len(b) == 0 {
			continue
		}
		step := max(1, len(b)/16)
		for at := 0; at < len(b); at += step {
			flipped := append([]byte(nil), b...)
			flipped[at] ^= 1 << (at % 8)
			whole.with(name, flipped).write(t, dir)
			got, err := reading(t, dir)
			if err != nil {
				wantDamage(t, err, "view", fmt.Sprintf("%s: bit flipped in byte %d of %d", name, at, len(b)))
				refused++
			} else if got != want {
				t.Fatalf("%s: bit flipped in byte %d of %d: opened, and shows\n%s\ninstead of\n%s", name, at, len(b), got, want)
			}
		}
		if strings.HasSuffix(name, ".sst") || strings.Contains(name, "MANIFEST-") {
			for _, size := range []int{0, len(b) / 2, len(b) - 1} {
				whole.with(name, b[:size]).write(t, dir)
				got, err := reading(t, dir)
				if err == nil && got == want {
					continue // a file that is no longer needed
				}
				wantDamage(t, err, "view", fmt.Sprintf("%s: cut to %d of %d", name, size, len(b)))
				refused++
			}
		}
	}
	if refused < 30 {
		t.Errorf("only %d refusals: the test proves little", refused)
	}
}

// TestMissingFile removes each file in turn: refused, or nothing is missing.
func TestMissingFile(t *testing.T) {
	_, after := lived(t)
	dir := filepath.Join(t.TempDir(), "state")
	after.write(t, dir)
	want, err := reading(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	after = readFiles(t, dir)
	for name := range after {
		after.with(name, nil).write(t, dir)
		got, err := reading(t, dir)
		if err == nil && got == want {
			continue
		}
		wantDamage(t, err, "", name+" is missing")
	}
	for _, gone := range []string{"log", "view"} {
		after.write(t, dir)
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		_, err := reading(t, dir)
		wantDamage(t, err, gone, gone+" is missing")
	}
}
