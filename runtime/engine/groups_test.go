package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// The list of groups is whole, however many pages it takes.
func TestGroupsInPages(t *testing.T) {
	r := newMeshRig(t, 2)
	m := r.open("a")
	const n = 2500
	for i := range n {
		a := runtime.Actor{App: "app", Type: "A", ID: fmt.Sprint(i)}
		if _, err := m.Subscribe(within(t), runtime.Caller{App: "app"}, runtime.Subscription{Actor: a, ID: "s", Path: "/x", Topic: "t"}); err != nil {
			t.Fatal(err)
		}
	}
	gs, _ := m.Groups()
	keys := map[string]bool{}
	for _, g := range gs {
		keys[g.Key] = true
	}
	if len(gs) != n || len(keys) != n {
		t.Errorf("%d groups are listed, %d of them once, of %d", len(gs), len(keys), n)
	}
}

// So is the list of an actor's reminders.
func TestRemindersInPages(t *testing.T) {
	r := newMeshRig(t, 2)
	m := r.open("a")
	a := runtime.Actor{App: "app", Type: "A", ID: "1"}
	for i, n := range []int{0, 999, 1000, 1001, 2500} {
		have := 0
		if rs, err := m.Reminders(within(t), a, ""); err != nil {
			t.Fatal(err)
		} else {
			have = len(rs)
		}
		for ; have < n; have++ {
			if _, err := m.SetReminder(within(t), runtime.Caller{App: "app"}, runtime.Reminder{Actor: a, ID: fmt.Sprintf("%05d", have), Path: "/x", Due: time.Now().UnixMilli() + 1e9}); err != nil {
				t.Fatal(err)
			}
		}
		rs, err := m.Reminders(within(t), a, "")
		if err != nil || len(rs) != n {
			t.Errorf("%d: %d reminders are listed, of %d: %v", i, len(rs), n, err)
		}
		for j, r := range rs {
			if r.ID != fmt.Sprintf("%05d", j) {
				t.Fatalf("%s is listed in place %d of %d", r.ID, j, n)
			}
		}
	}
}
