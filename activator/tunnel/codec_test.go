package tunnel

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/karmesh/kar/runtime"
)

func samples() []Message {
	id := runtime.ID{1, 2, 3, 15: 9}
	at := runtime.Attempt{ID: id, Step: 2, Number: 300, Partition: 63}
	actor := runtime.Actor{App: "a/b", Type: "T", ID: "😀 %/"}
	header := runtime.Header{"Content-Type": {"application/kar+json"}, "X-Many": {"a", "", "c\xe9d"}}
	return []Message{
		&Welcome{Protocol: 1, Version: "v", Node: "n", Partitions: 64, LeaseMillis: 6000, BodyLimit: 1 << 22, Epochs: []runtime.PartitionEpoch{{Partition: 0, Epoch: 0}, {Partition: 3, Epoch: 1 << 40}}, Gateways: []string{"http://a:1", ""}, Mesh: "m", WallMillis: 1 << 41},
		&Hello{Protocol: 1, Version: "v", Token: "t", Info: runtime.HostInfo{Boot: "b", App: "a", Name: "n", Service: "s", Actors: []string{"A", "", "B"}, Port: 8080, Idle: 10, Grace: 6000, URL: "u", Draining: true, Frozen: true, Attachment: 1 << 33}},
		&Joined{Running: []runtime.Attempt{at, {}}, Instances: []runtime.Actor{actor, {}}, Epochs: []runtime.PartitionEpoch{{}, {Partition: 1, Epoch: 2}}, More: true, Later: []runtime.TermSeen{{}, {Partition: 1, Epoch: 9, Mark: 3}}},
		&runtime.TermLost{Partition: 2, Epoch: 3, Seen: runtime.TermSeen{Partition: 2, Epoch: 9, Mark: 4}},
		&PartJoined{Joined{Running: []runtime.Attempt{at}, Instances: []runtime.Actor{actor}, Epochs: []runtime.PartitionEpoch{{Partition: 1, Epoch: 2}}}},
		&BeatAnswer{Seq: 6, Kept: true, Silent: []uint16{0, 63, 65535}, WallMillis: 1 << 41},
		&Up{}, &Refused{Code: "x", Detail: "y"},
		&Answer{runtime.Answer{Attempt: at, ActivationFailed: true, Outcome: &runtime.Outcome{Status: 404, Header: header, Body: []byte{0, 255}, Code: "c"}}},
		&Answer{runtime.Answer{Attempt: at}},
		&Answer{runtime.Answer{Attempt: at, Outcome: &runtime.Outcome{}}},
		&Deactivated{runtime.Deactivate{Actor: actor, Partition: 7, Epoch: 3, Asking: 1 << 40}}, &Beat{Seq: 5}, &BeatAnswer{Seq: 5, Kept: true, Gateways: []string{"http://a:1"}},
		&Exit{Reason: "r"}, &Changed{Draining: true},
		&Request{Seq: 1, ID: id, Method: "POST", Path: "/kar/v1/x?y", Header: header, Body: []byte("b")},
		&Response{Seq: 1, Status: 200, Header: header, Body: []byte("b")},
		&Got{IDs: []runtime.ID{id, id}}, &Cancel{Seq: 9},
		&runtime.Invoke{Attempt: at, Epoch: 4, Target: runtime.Target{App: "a", Type: "T", ID: "i", Service: "s"}, Method: "GET", Path: "/p", Header: header, Body: []byte("b"), Session: "f:r", Limit: 50},
		&runtime.Deactivate{Actor: actor, Partition: 2, Epoch: 3, Asking: 4}, &runtime.Taken{Attempts: []runtime.Attempt{at}},
		&runtime.Verdict{Reason: "r"}, &runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: 1, Epoch: 2}}},
	}
}

func encoded(m Message) []byte {
	head, body := encode(nil, m)
	return append(head, body...)
}

func TestEveryMessageSurvives(t *testing.T) {
	for _, m := range samples() {
		got, err := decode(encoded(m))
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: got %+v, %v, want %+v", m, got, err, m)
		}
	}
}

func TestUnknownFieldsAndKindsAreSkipped(t *testing.T) {
	b := appendUint(encoded(&Beat{Seq: 5}), 900, 7)
	b = appendString(b, 901, "from a later version")
	if m, err := decode(b); err != nil || *m.(*Beat) != (Beat{Seq: 5}) {
		t.Fatal(m, err)
	}
	if m, err := decode([]byte{250, 1, 2}); m != nil || err != nil {
		t.Fatal(m, err)
	}
}

func TestCutMessagesAreRefusedOrShorter(t *testing.T) {
	for _, m := range samples() {
		b := encoded(m)
		for n := range b {
			if got, err := decode(b[:n]); err == nil && reflect.DeepEqual(got, m) {
				t.Errorf("%T cut to %d of %d bytes reads as the whole", m, n, len(b))
			}
		}
	}
}

// FuzzDecode: no input panics, and what is read is bounded by the input.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		f.Add(encoded(m))
	}
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil || m == nil {
			return
		}
		again, err := decode(encoded(m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	m := &runtime.Invoke{
		Attempt: runtime.Attempt{ID: runtime.ID{1}, Number: 1}, Epoch: 4, Target: runtime.Target{App: "a", Type: "T", ID: "i"},
		Path: "/p", Header: runtime.Header{"Content-Type": {"application/kar+json"}, "Kar-Request-Id": {"00000000000000000000000000"}, "Kar-Attempt": {"1"}},
		Session: "f:r", Body: bytes.Repeat([]byte("x"), 200),
	}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		head, body := encode(buf[:0], m)
		buf = append(head, body...)
		if _, err := decode(append([]byte(nil), buf...)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLongListsGoInSmallPieces(t *testing.T) {
	m := &Joined{Epochs: []runtime.PartitionEpoch{{Partition: 1, Epoch: 2}}}
	for i := range 20_000 {
		m.Running = append(m.Running, runtime.Attempt{ID: runtime.ID{byte(i), byte(i >> 8), 15: 1}, Step: 1 << 31, Number: 1 << 31, Partition: 65535})
		m.Instances = append(m.Instances, runtime.Actor{App: "app", Type: "Type", ID: string(bytes.Repeat([]byte{'x'}, i%1000))})
	}
	pieces := m.Pieces()
	got := &Joined{}
	for i, p := range pieces {
		if n := len(encoded(p)); n > KeepsOrder {
			t.Fatalf("piece %d of %d has %d bytes", i, len(pieces), n)
		}
		if p.More != (i < len(pieces)-1) {
			t.Fatalf("piece %d of %d says more: %v", i, len(pieces), p.More)
		}
		got.Epochs = append(got.Epochs, p.Epochs...)
		got.Running = append(got.Running, p.Running...)
		got.Instances = append(got.Instances, p.Instances...)
	}
	if !reflect.DeepEqual(got, m) {
		t.Error("the pieces are not the whole")
	}
	if p := (&Joined{}).Pieces(); len(p) != 1 || p[0].More {
		t.Errorf("an empty list: %+v", p)
	}
}
