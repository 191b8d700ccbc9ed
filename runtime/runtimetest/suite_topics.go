package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// TopicsOpener opens the topics under test: empty at the first call, later
// with what was there when they were closed before.
type TopicsOpener func(t *testing.T) runtime.Topics

// TopicsSuite checks the laws of runtime.Topics; fresh is called once for each.
func TopicsSuite(t *testing.T, fresh func(t *testing.T) TopicsOpener) {
	for _, law := range []struct {
		name  string
		check func(*testing.T, TopicsOpener)
	}{
		{"create-delete-list", topicsNames},
		{"publish-fetch", topicsPublish},
		{"missing", topicsMissing},
		{"fetch-waits", topicsWait},
		{"fetch-ends", topicsEnd},
		{"concurrent-publishers", topicsConcurrent},
		{"reopen", topicsReopen},
		{"offsets-go-on", topicsOffsets},
	} {
		t.Run(law.name, func(t *testing.T) { law.check(t, fresh(t)) })
	}
}

func topicsNames(t *testing.T, open TopicsOpener) {
	ts := open(t)
	names := []string{"a", "b/c", "ü 💥", "\x00\xff", "%2F", ""}
	for _, name := range names {
		wantCreate(t, ts, name, true)
		wantCreate(t, ts, name, false)
	}
	slices.Sort(names)
	if got, err := ts.List(t.Context()); err != nil || !slices.Equal(got, names) {
		t.Fatalf("list = %q, %v; want %q", got, err, names)
	}
	existing := func(asked, want []string) {
		t.Helper()
		got, err := ts.Existing(t.Context(), asked)
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Fatalf("of %d names %q exist, %v; want %q", len(asked), got, err, want)
		}
	}
	existing(nil, nil)
	existing([]string{"never", "b/c", "a"}, []string{"a", "b/c"})
	many := []string{"a"}
	for i := range 1000 {
		many = append(many, fmt.Sprint("never", i))
	}
	existing(many, []string{"a"})
	wantDelete(t, ts, "a", true)
	wantDelete(t, ts, "a", false)
	existing([]string{"a"}, nil)
	wantDelete(t, ts, "never", false)
	if got, _ := ts.List(t.Context()); slices.Contains(got, "a") || len(got) != len(names)-1 {
		t.Fatalf("list after delete = %q", got)
	}
}

func topicsPublish(t *testing.T, open TopicsOpener) {
	ts := open(t)
	wantCreate(t, ts, "t", true)
	wantCreate(t, ts, "u", true)
	want := []runtime.Event{
		{Offset: 0, Key: []byte("k"), Header: runtime.Header{"A": {"1", "2"}, "B": {""}}, Body: []byte("body")},
		{Offset: 1, Body: []byte("\x00\xff")},
		{Offset: 2, Body: make([]byte, 1<<20)},
		{Offset: 3, Key: []byte("only a key")},
	}
	for _, e := range want {
		publish(t, ts, "t", e, e.Offset)
	}
	publish(t, ts, "u", runtime.Event{Body: []byte("other")}, 0)
	wantTopicBounds(t, ts, "t", 0, 4)
	for from := range int64(4) {
		wantEvents(t, ts, "t", from, 10, want[from:])
		wantEvents(t, ts, "t", from, 1, want[from:from+1])
	}
}

func topicsMissing(t *testing.T, open TopicsOpener) {
	ts := open(t)
	wantCreate(t, ts, "gone", true)
	publish(t, ts, "gone", runtime.Event{}, 0)
	wantDelete(t, ts, "gone", true)
	for _, name := range []string{"never", "gone"} {
		_, err := ts.Publish(t.Context(), name, runtime.Event{})
		wantMissing(t, "publish", err)
		_, _, err = ts.Bounds(t.Context(), name)
		wantMissing(t, "bounds", err)
		_, err = ts.Fetch(t.Context(), name, 0, 1)
		wantMissing(t, "fetch", err)
	}
}

// topicsWait starts a fetch at the end of a topic; whether the event comes
// before or while it waits, it gets it.
func topicsWait(t *testing.T, open TopicsOpener) {
	ts := open(t)
	wantCreate(t, ts, "t", true)
	for i := range int64(50) {
		got := make(chan int64, 3)
		for range cap(got) {
			go func() {
				fetched, err := ts.Fetch(t.Context(), "t", i, 10)
				if err != nil || len(fetched.Events) != 1 || fetched.Next != i+1 || fetched.Missing != nil {
					got <- -1
					return
				}
				got <- fetched.Events[0].Offset
			}()
		}
		publish(t, ts, "t", runtime.Event{}, i)
		for range cap(got) {
			select {
			case offset := <-got:
				if offset != i {
					t.Fatalf("fetch at %d answered %d", i, offset)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("fetch at %d did not see the event", i)
			}
		}
	}
}

func topicsEnd(t *testing.T, open TopicsOpener) {
	ts := open(t)
	wantCreate(t, ts, "t", true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := ts.Fetch(ctx, "t", 0, 1)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("fetch under a context that ended = %v", err)
	}
	go func() {
		_, err := ts.Fetch(t.Context(), "t", 0, 1)
		ended <- err
	}()
	wantDelete(t, ts, "t", true)
	wantMissing(t, "waiting fetch of a deleted topic", <-ended)
}

func topicsConcurrent(t *testing.T, open TopicsOpener) {
	ts := open(t)
	const topics, publishers, each = 3, 8, 25
	for i := range topics {
		wantCreate(t, ts, fmt.Sprint(i), true)
	}
	var group sync.WaitGroup
	for p := range publishers {
		group.Go(func() {
			last := make([]int64, topics)
			for i := range each {
				topic := (p + i) % topics
				body := fmt.Sprintf("%d.%d", p, i)
				offset, err := ts.Publish(t.Context(), fmt.Sprint(topic), runtime.Event{Body: []byte(body)})
				if err != nil || (i >= topics && offset <= last[topic]) {
					t.Errorf("publish %s = %d, %v", body, offset, err)
					return
				}
				last[topic] = offset
			}
		})
	}
	group.Wait()
	seen := map[string]bool{}
	for i := range topics {
		_, end, _ := ts.Bounds(t.Context(), fmt.Sprint(i))
		for at := int64(0); at < end; {
			fetched, err := ts.Fetch(t.Context(), fmt.Sprint(i), at, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range fetched.Events {
				if e.Offset != at || seen[string(e.Body)] {
					t.Fatalf("event %q twice or at %d instead of %d", e.Body, e.Offset, at)
				}
				seen[string(e.Body)] = true
				at++
			}
		}
	}
	if len(seen) != publishers*each {
		t.Fatalf("%d of %d events", len(seen), publishers*each)
	}
}

func topicsReopen(t *testing.T, open TopicsOpener) {
	ts := open(t)
	wantCreate(t, ts, "t", true)
	want := []runtime.Event{{Offset: 0, Key: []byte("k"), Body: []byte("a")}, {Offset: 1, Header: runtime.Header{"X": {"y"}}}}
	publish(t, ts, "t", want[0], 0)
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	ts = open(t)
	wantCreate(t, ts, "t", false)
	publish(t, ts, "t", want[1], 1)
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	ts = open(t)
	wantEvents(t, ts, "t", 0, 10, want)
}

func topicsOffsets(t *testing.T, open TopicsOpener) {
	ts := open(t)
	wantCreate(t, ts, "t", true)
	for i := range int64(3) {
		publish(t, ts, "t", runtime.Event{}, i)
	}
	wantDelete(t, ts, "t", true)
	wantCreate(t, ts, "t", true)
	wantTopicBounds(t, ts, "t", 3, 3)
	publish(t, ts, "t", runtime.Event{Body: []byte("new")}, 3)
	wantDelete(t, ts, "t", true)
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	ts = open(t)
	wantCreate(t, ts, "t", true)
	wantTopicBounds(t, ts, "t", 4, 4)
	publish(t, ts, "t", runtime.Event{Body: []byte("newer")}, 4)
	wantEvents(t, ts, "t", 0, 10, []runtime.Event{{Offset: 4, Body: []byte("newer")}})
}

func wantCreate(t *testing.T, ts runtime.Topics, name string, want bool) {
	t.Helper()
	if got, err := ts.Create(t.Context(), name); err != nil || got != want {
		t.Fatalf("create %q = %v, %v; want %v", name, got, err, want)
	}
}

func wantDelete(t *testing.T, ts runtime.Topics, name string, want bool) {
	t.Helper()
	if got, err := ts.Delete(t.Context(), name); err != nil || got != want {
		t.Fatalf("delete %q = %v, %v; want %v", name, got, err, want)
	}
}

func publish(t *testing.T, ts runtime.Topics, name string, e runtime.Event, want int64) {
	t.Helper()
	if got, err := ts.Publish(t.Context(), name, e); err != nil || got != want {
		t.Fatalf("publish to %q = %d, %v; want %d", name, got, err, want)
	}
}

func wantTopicBounds(t *testing.T, ts runtime.Topics, name string, start, end int64) {
	t.Helper()
	if s, e, err := ts.Bounds(t.Context(), name); err != nil || s != start || e != end {
		t.Fatalf("bounds of %q = %d to %d, %v; want %d to %d", name, s, e, err, start, end)
	}
}

// wantEvents compares; an empty and an absent key, header or body are the same.
func wantEvents(t *testing.T, ts runtime.Topics, name string, from int64, limit int, want []runtime.Event) {
	t.Helper()
	fetched, err := ts.Fetch(t.Context(), name, from, limit)
	got := fetched.Events
	if err != nil || len(got) != len(want) {
		t.Fatalf("fetch from %d = %d events, %v; want %d", from, len(got), err, len(want))
	}
	for i, e := range got {
		w := want[i]
		if e.Offset != w.Offset || string(e.Key) != string(w.Key) || string(e.Body) != string(w.Body) ||
			len(e.Header) != len(w.Header) || len(w.Header) > 0 && !reflect.DeepEqual(e.Header, w.Header) {
			t.Fatalf("event %d = %+v, want %+v", i, e, w)
		}
	}
}

func wantMissing(t *testing.T, doing string, err error) {
	t.Helper()
	coded := (*runtime.Error)(nil)
	if !errors.As(err, &coded) || coded.Code != runtime.CodeTopicMissing {
		t.Fatalf("%s = %v, want the code %s", doing, err, runtime.CodeTopicMissing)
	}
}
