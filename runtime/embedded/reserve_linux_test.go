package embedded

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

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
	publish := func() error {
		_, _ = chance.Read(noise) // nothing that can be packed
		_, err := topics.Publish(t.Context(), "t", runtime.Event{Body: noise})
		return err
	}
	for round := range 3 {
		inTheEnd(t, "Create", func() error { _, err := topics.Create(t.Context(), "t"); return err })
		inTheEnd(t, "Publish", publish)
		taken := 1
		for ; ; taken++ {
			if err := publish(); err != nil {
				wantCode(t, err, runtime.CodeDiskFull, "")
				break
			}
		}
		full := left(t, dir)
		if deleted, err := topics.Delete(t.Context(), "t"); err != nil || !deleted {
			t.Fatal(round, deleted, err)
		}
		inTheEnd(t, "Delete", func() error {
			if now := left(t, dir); now < 40 {
				return fmt.Errorf("%d %% of the disk are free after a topic of %d events was deleted, and %d %% were before", now, taken, full)
			}
			return nil
		})
		t.Logf("round %d: %d events, %d %% free before the topic was deleted and %d %% after", round, taken, full, left(t, dir))
	}
}
