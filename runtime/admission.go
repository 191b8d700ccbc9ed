package runtime

import "time"

// A Neighbour is a gateway that lives, as another one sees it.
type Neighbour struct {
	Member
	// Apart is for how long both of them have been reading a list of gateways in
	// which the other is not: they have two stores. 0 when that is not known.
	Apart time.Duration
	// Ahead is for how long it has been saying that it owns a partition in a term to
	// which the log does not reach that this gateway reads. 0 when it does not.
	Ahead time.Duration
}

// An Admission says whether a gateway takes part in the mesh.
type Admission uint8

const (
	Admitted Admission = iota
	// Held: it takes nothing for now.
	Held
	// Refused: it never may.
	Refused
)

// Admit decides whether a gateway takes part beside others. All of one mesh have
// the same lease of hosts, or an owner that is deposed answers for longer than the
// next one waits; the same lease of gateways, or one holds another for gone that the
// others hold for alive; the same log, or each accepts what the others never see; and
// the same store, or each trims from the log what is only in its own. Who differs and
// has owned something goes on, and who comes is refused. Of several that come at once the
// first by name goes on.
//
// With is the neighbour that is the reason, and why is an error when it does not
// pass by itself, also of a gateway that goes on.
func Admit(me *Member, others []Neighbour, gatewayLease time.Duration) (a Admission, with string, why *Error) {
	for i := range others {
		x := &others[i]
		var differs *Error
		switch {
		case x.Node == me.Node:
		case x.Lease != 0 && me.Lease != 0 && x.Lease != me.Lease:
			differs = otherLease("--lease (KAR_LEASE)", me.Lease, x.Lease, &x.Member)
		case x.GatewayLease != 0 && me.GatewayLease != 0 && x.GatewayLease != me.GatewayLease:
			differs = otherLease("--gateway-lease (KAR_GATEWAY_LEASE)", me.GatewayLease, x.GatewayLease, &x.Member)
		case OtherLog(me, &x.Member), x.Ahead > 2*gatewayLease && !me.Joined:
			differs = Errorf(CodeForeign, "the gateway %s (%s) of this mesh uses another log: another Kafka, or another copy of it; see the settings of Kafka of both",
				x.Node, x.Address)
		case x.Apart > 2*gatewayLease:
			differs = Errorf(CodeForeign, "the gateway %s (%s) of this mesh uses another Redis: neither of the two is in the list of gateways that the other reads; see the settings of Redis of both, and to move a mesh to another Redis stop all its gateways first",
				x.Node, x.Address)
		case x.Apart == 0:
		case !me.Joined && a == Admitted: // soon it is in the list, or it is sure that it never will be
			a, with = Held, x.Node
		}
		switch {
		case differs == nil:
		case me.Joined:
			with, why = x.Node, differs
		case x.Joined:
			return Refused, x.Node, differs
		case x.Node < me.Node && a == Admitted:
			a, with = Held, x.Node
		}
	}
	return a, with, why
}

// OtherLog tells that two gateways certainly have different logs. What one of them
// owns is no news for the other, and nothing is given to it.
func OtherLog(a, b *Member) bool { return a.Log != "" && b.Log != "" && a.Log != b.Log }

func otherLease(name string, mine, theirs int64, at *Member) *Error {
	return Errorf(CodeBadConfig, "%s is %s here and %s at the gateway %s (%s), and all gateways of a mesh need the same; to change it, stop all of them first",
		name, lasting(mine), lasting(theirs), at.Node, at.Address)
}

func lasting(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
