package runtime

import (
	"testing"
	"time"
)

func TestNextLeaseStep(t *testing.T) {
	const lease = 6 * time.Second
	for _, x := range []struct {
		what          string
		age, freshest time.Duration
		want          LeaseStep
	}{
		{"all are heard", time.Second, time.Second, LeaseHolds},
		{"silent for a while, others are heard", 4 * time.Second, time.Second, LeaseHolds},
		{"silent for long, others are heard", 4*time.Second + 1, time.Second, LeaseEases},
		{"nobody is heard", 5 * time.Second, 5 * time.Second, LeaseHolds},
		{"others are hardly heard", 5 * time.Second, 3*time.Second + 1, LeaseHolds},
		{"at the end", lease, 0, LeaseEases},
		{"over, others are heard", lease + 1, 0, LeaseOver},
		{"over, nobody is heard", lease + 1, lease + 1, LeaseOver},
	} {
		if got := NextLeaseStep(x.age, x.freshest, lease); got != x.want {
			t.Errorf("%s: step %d instead of %d", x.what, got, x.want)
		}
	}
}
