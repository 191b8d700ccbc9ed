package runtime

import "testing"

// TestClosedDoor plays meshes of whom some are cut off from some, and asks each
// gateway: who begins needs all, later only who is worse off than another closes.
func TestClosedDoor(t *testing.T) {
	const patience = 10
	for _, x := range []struct {
		name   string
		nodes  string
		cuts   []string // pairs without a stream
		dead   string   // owners that do not live any more
		waited int64
		closed string // of those that have begun
		begin  string // if all of them began
	}{
		{"all is well", "abc", nil, "", 99, "", ""},
		{"one dies", "abc", nil, "c", 99, "", ""},
		{"one of two dies", "ab", nil, "b", 99, "", ""},
		{"one is not reached for a moment", "abc", []string{"ac", "bc"}, "", 5, "", "abc"},
		{"one is reached by nobody", "abc", []string{"ac", "bc"}, "", 99, "c", "abc"},
		{"two cannot meet, the third meets both", "abc", []string{"ab"}, "", 99, "ab", "ab"},
		{"two in two halves", "ab", []string{"ab"}, "", 99, "", "ab"},
		{"four in two halves", "abcd", []string{"ac", "ad", "bc", "bd"}, "", 99, "", "abcd"},
		{"nobody reaches all", "abcd", []string{"ab", "cd"}, "", 99, "", "abcd"},
		{"three against two", "abcde", []string{"ad", "ae", "bd", "be", "cd", "ce"}, "", 99, "de", "abcde"},
	} {
		cut := map[string]bool{}
		for _, c := range x.cuts {
			cut[c], cut[c[1:]+c[:1]] = true, true
		}
		gone := func(n rune) bool { return string(n) == x.dead }
		for begun, want := range map[bool]string{true: x.closed, false: x.begin} {
			got := ""
			for _, me := range x.nodes {
				if gone(me) {
					continue
				}
				v := DoorView{Begun: begun, Patience: patience}
				for _, n := range x.nodes {
					if n == me || gone(n) {
						continue
					}
					v.Living++
					o := DoorOwner{Node: string(n), Reached: !cut[string(me)+string(n)], Waited: x.waited}
					if v.Owners = append(v.Owners, o); !o.Reached {
						continue
					}
					v.Reached++
					p := DoorPeer{Node: string(n)}
					for _, k := range x.nodes {
						if k != n && !gone(k) && !cut[string(n)+string(k)] {
							p.Knows = append(p.Knows, Member{Node: string(k)})
						}
					}
					v.Peers = append(v.Peers, p)
				}
				owner, closed := ClosedDoor(&v)
				if closed {
					got += string(me)
				}
				if closed != (owner != "") {
					t.Errorf("%s: closed %v because of %q", x.name, closed, owner)
				}
			}
			if got != want {
				t.Errorf("%s, begun %v: %q are closed, want %q", x.name, begun, got, want)
			}
		}
	}
}
