package engine

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// What names a partition as its sender that the mesh has not is dropped.
func TestInputOfNoPartition(t *testing.T) {
	for _, from := range []uint16{1, 2, 65535} {
		for _, n := range []*InputNote{
			{Acked: &runtime.Acked{Partition: from}}, {Deliver: &runtime.Deliver{From: from}},
			{FenceAsk: &runtime.FenceAsk{From: from}}, {FenceAnswered: &runtime.FenceAnswered{From: from}},
			{GroupAsk: &runtime.GroupAsk{From: from}}, {GroupOpen: &runtime.GroupOpen{From: from}},
			{BesideAsk: &runtime.BesideAsk{From: from}}, {BesideAnswered: &runtime.BesideAnswered{From: from}},
		} {
			if n.Deliver != nil && from == 1 {
				continue // a message takes more of a mesh
			}
			p := &partition{wake: make(chan struct{}, 1), queued: map[any]bool{}}
			m := &Mesh{parts: []*partition{p, {}}}
			p.m = m
			m.heardInput(n)
			if heard := len(p.inputs) > 0; heard != (from == 1) {
				t.Errorf("from partition %d of 2: heard %v: %+v", from, heard, n)
			}
		}
	}
}
