package runtimetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A MembersSetup opens views of one list, which is empty at first.
type MembersSetup struct {
	// Open is called once for each gateway that takes part.
	Open func(t *testing.T) runtime.Members
	// Wait lets at least d pass on the list's clock.
	Wait func(d time.Duration)
}

// MembersSuite checks the laws of runtime.Members; fresh is called once for each.
func MembersSuite(t *testing.T, fresh func(t *testing.T) MembersSetup) {
	for _, law := range []struct {
		name  string
		check func(*testing.T, MembersSetup)
	}{
		{"alone", membersAlone},
		{"whole-entry", membersWhole},
		{"sorted", membersSorted},
		{"replace", membersReplace},
		{"expiry", membersExpiry},
		{"leave", membersLeave},
		{"many-at-once", membersStorm},
		{"cancelled", membersCancelled},
	} {
		t.Run(law.name, func(t *testing.T) { law.check(t, fresh(t)) })
	}
}

// long is a lifetime that no test outlives.
const long = time.Hour

func announce(t *testing.T, m runtime.Members, me runtime.Member, ttl time.Duration) []runtime.Member {
	t.Helper()
	all, err := m.Announce(t.Context(), me, ttl)
	if err != nil {
		t.Fatalf("announce %s: %v", me.Node, err)
	}
	return all
}

func wantNodes(t *testing.T, got []runtime.Member, want ...string) {
	t.Helper()
	var nodes []string
	for _, m := range got {
		nodes = append(nodes, m.Node)
	}
	if !slices.Equal(nodes, want) {
		t.Fatalf("members %v, want %v", nodes, want)
	}
}

func membersAlone(t *testing.T, setup MembersSetup) {
	wantNodes(t, announce(t, setup.Open(t), runtime.Member{Node: "a"}, long), "a")
}

// membersWhole: every field comes back, for others as well.
func membersWhole(t *testing.T, setup MembersSetup) {
	full := runtime.Member{
		Node: "a \x7f ü \" , : {", Address: "https://host:1234", Version: "v1 <&>", Level: 7, Leaving: true, Lease: 1, GatewayLease: 2, Log: "l", Joined: true, Shuns: []uint16{0, 4095}, Lacks: []string{"b"},
		Owns: []runtime.PartitionEpoch{{Partition: 0, Epoch: 1}, {Partition: 4095, Epoch: 1<<64 - 1}},
	}
	announce(t, setup.Open(t), full, long)
	got := announce(t, setup.Open(t), runtime.Member{Node: "b"}, long)
	wantNodes(t, got, full.Node, "b")
	if fmt.Sprintf("%#v", got[0]) != fmt.Sprintf("%#v", full) {
		t.Fatalf("got %#v\nwant %#v", got[0], full)
	}
}

func membersSorted(t *testing.T, setup MembersSetup) {
	m := setup.Open(t)
	for _, node := range []string{"c", "a", "d", "B"} {
		announce(t, m, runtime.Member{Node: node}, long)
	}
	wantNodes(t, announce(t, m, runtime.Member{Node: "b"}, long), "B", "a", "b", "c", "d")
}

func membersReplace(t *testing.T, setup MembersSetup) {
	m := setup.Open(t)
	announce(t, m, runtime.Member{Node: "a", Address: "old", Leaving: true}, long)
	got := announce(t, m, runtime.Member{Node: "a", Address: "new"}, long)
	wantNodes(t, got, "a")
	if got[0].Address != "new" || got[0].Leaving {
		t.Fatalf("got %+v", got[0])
	}
}

func membersExpiry(t *testing.T, setup MembersSetup) {
	m := setup.Open(t)
	announce(t, m, runtime.Member{Node: "brief"}, 300*time.Millisecond)
	announce(t, m, runtime.Member{Node: "renewed"}, 300*time.Millisecond)
	announce(t, m, runtime.Member{Node: "shortened"}, long)
	announce(t, m, runtime.Member{Node: "shortened"}, 300*time.Millisecond)
	wantNodes(t, announce(t, m, runtime.Member{Node: "renewed"}, long), "brief", "renewed", "shortened")
	setup.Wait(400 * time.Millisecond)
	wantNodes(t, announce(t, m, runtime.Member{Node: "z"}, long), "renewed", "z")
	wantNodes(t, announce(t, m, runtime.Member{Node: "brief"}, long), "brief", "renewed", "z")
}

func membersLeave(t *testing.T, setup MembersSetup) {
	m, other := setup.Open(t), setup.Open(t)
	announce(t, m, runtime.Member{Node: "a"}, long)
	announce(t, m, runtime.Member{Node: "b"}, long)
	for _, node := range []string{"a", "a", "never there"} {
		if err := other.Leave(t.Context(), node); err != nil {
			t.Fatalf("leave %s: %v", node, err)
		}
	}
	wantNodes(t, announce(t, m, runtime.Member{Node: "b"}, long), "b")
}

// membersStorm: nobody's entry is lost when all of them write at once.
func membersStorm(t *testing.T, setup MembersSetup) {
	var all sync.WaitGroup
	var want []string
	for i := range 8 {
		m, node := setup.Open(t), fmt.Sprintf("node-%d", i)
		want = append(want, node)
		all.Go(func() {
			for range 20 {
				got, err := m.Announce(t.Context(), runtime.Member{Node: node}, long)
				if err != nil || !slices.ContainsFunc(got, func(m runtime.Member) bool { return m.Node == node }) {
					t.Errorf("%s does not find itself in %v, %v", node, got, err)
					return
				}
			}
		})
	}
	all.Wait()
	wantNodes(t, announce(t, setup.Open(t), runtime.Member{Node: "node-0"}, long), want...)
}

func membersCancelled(t *testing.T, setup MembersSetup) {
	m := setup.Open(t)
	announce(t, m, runtime.Member{Node: "a"}, long)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Announce(ctx, runtime.Member{Node: "b"}, long); err == nil {
		t.Fatal("announced under a context that was over")
	}
	wantNodes(t, announce(t, m, runtime.Member{Node: "a"}, long), "a")
}
