package embedded

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// TestDeleteOnAFullDisk: a topic that has filled the disk can be deleted, which
// makes room, again and again.
func TestDeleteOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "64m")
	d, err := Open(filepath.Join(dir, "state"), Options{FailedSync: func(err error) { t.Errorf("failed sync: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	topics := d.Topics()
	noise, chance := make([]byte, 64<<10), rand.NewChaCha8([32]byte{})
	for round := range 3 {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // as soon as what waits is written
			if _, err := topics.Create(t.Context(), "t"); err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatal(round, err)
			}
		}
		taken := 0
		for ; ; taken++ {
			_, _ = chance.Read(noise) // nothing that can be packed
			if _, err := topics.Publish(t.Context(), "t", runtime.Event{Body: noise}); err != nil {
				wantCode(t, err, runtime.CodeDiskFull, "")
				break
			}
		}
		full := left(t, dir)
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if deleted, err := topics.Delete(t.Context(), "t"); err == nil && deleted {
				break
			} else if time.Now().After(end) {
				t.Fatal(round, deleted, err)
			}
		}
		for end := time.Now().Add(10 * time.Second); left(t, dir) < 40; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("round %d: %d %% of the disk are free after a topic of %d events was deleted, and %d %% were before", round, left(t, dir), taken, full)
			}
		}
		t.Logf("round %d: %d events, %d %% free before the topic was deleted and %d %% after", round, taken, full, left(t, dir))
	}
}
