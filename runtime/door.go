package runtime

// A DoorView is what a gateway knows about the way to the owners of partitions, for
// whether clients should come to it.
type DoorView struct {
	// Begun tells that it had a way to all of them at some time.
	Begun bool
	// Owners are the other gateways that live and own something, as far as this one knows.
	Owners []DoorOwner
	// Living is how many other gateways live, and Reached to how many of these it has
	// streams.
	Living, Reached int
	// Peers are those with streams to it.
	Peers []DoorPeer
	// Patience is how long an owner may be without a stream; in the unit of Waited.
	Patience int64
}

// A DoorOwner is one that is named as an owner.
type DoorOwner struct {
	Node    string
	Reached bool
	Waited  int64 // for a stream
}

// A DoorPeer is another gateway, and to whom it has streams.
type DoorPeer struct {
	Node  string
	Knows []Member
}

// ClosedDoor tells whether clients should go to other gateways, and names the owner
// to whom this one has no way. One that begins needs a way to each. Later an owner may
// be away for a while, and one that is away for all is no reason: only who is worse
// off than others closes, that is who reaches less than half, or who knows one that
// reaches all. So neither a take-over nor a net that is cut in the middle closes all
// doors at once.
func ClosedDoor(v *DoorView) (owner string, closed bool) {
	for _, o := range v.Owners {
		if !o.Reached && (!v.Begun || o.Waited > v.Patience) {
			owner, closed = o.Node, true
			break
		}
	}
	if !closed || !v.Begun || 2*(v.Reached+1) < v.Living+1 {
		return owner, closed
	}
	for i := range v.Peers {
		if v.Peers[i].reachesAll(v.Owners) {
			return owner, true
		}
	}
	return "", false
}

func (p *DoorPeer) reachesAll(owners []DoorOwner) bool {
	known := map[string]bool{p.Node: true}
	for i := range p.Knows {
		known[p.Knows[i].Node] = true
	}
	for _, o := range owners {
		if !known[o.Node] {
			return false
		}
	}
	return true
}

// Ownerless tells that a partition has had no owner that lives for longer than a take-over
// takes at most, in gateways' leases: until it is known, and until the heir answers.
func Ownerless(waited, lease int64) bool { return waited > 3*lease }
