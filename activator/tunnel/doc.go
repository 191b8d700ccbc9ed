// Package tunnel is the wire between a gateway and an attached host: one
// full-duplex stream of messages on a WebSocket, which passes ordinary HTTP
// proxies. Everything that waits goes out in one WebSocket message; large
// messages go in pieces between the others, so that they block nobody.
//
// Small messages arrive in the order in which they were sent. A large one may
// be overtaken by what was sent after it.
package tunnel

import "github.com/karmesh/kar/runtime"

// Protocol is the version of this wire. Unknown fields are skipped, so it is
// raised only when old ends could not understand the new meaning.
const Protocol = 1

// Path is where a gateway listens for hosts; ExitPath takes exit reports.
const (
	Path     = "/kar/attach"
	ExitPath = "/kar/exit"
)

// ExitReport is the JSON body of a POST to [ExitPath].
type ExitReport struct {
	Boot   string `json:"boot"`
	Reason string `json:"reason"`
}

// A Message is a pointer to one of the types of this file, or one of
// *runtime.Invoke, Deactivate, Taken, Verdict, JoinAsk and TermLost.
type Message any

// Welcome is the first message, from the gateway.
type Welcome struct {
	Protocol    uint64
	Version     string
	Node        string
	Partitions  int
	LeaseMillis int64
	BodyLimit   int
	// Epochs is the join question: who may speak for which partition from now on.
	Epochs []runtime.PartitionEpoch
	// Gateways are further addresses of the mesh, for when this gateway goes.
	Gateways []string
	// Mesh tells apart the logs that gateways have, "" when that is not known.
	Mesh string
	// WallMillis is the gateway's clock, in milliseconds since 1970; 0 when it does not say.
	WallMillis int64
}

// Hello is the host's answer to it.
type Hello struct {
	Protocol uint64
	Version  string
	Token    string
	Info     runtime.HostInfo
}

// Joined says what runs and which instances are active, in all partitions; it
// ends the join. Finished answers went before it, each as an [Answer].
type Joined struct {
	// Epochs are what is answered of the question in [Welcome]: without the terms
	// that are older than what the host has seen.
	Epochs    []runtime.PartitionEpoch
	Running   []runtime.Attempt
	Instances []runtime.Actor
	// Later are the terms that the host has seen where the question's are older.
	Later []runtime.TermSeen
	// More says that the list goes on in the next message of this kind.
	More bool
}

// PartJoined answers a *runtime.JoinAsk: the same for some partitions, while
// everything else goes on. Finished attempts count as running: their answers go
// their own way, each as an [Answer], large ones behind the list.
type PartJoined struct{ Joined }

// Pieces cuts a long list into messages that are small enough to keep their order.
func (m *Joined) Pieces() []*Joined {
	var out []*Joined
	p := &Joined{Epochs: m.Epochs, Later: m.Later}
	size := 8*len(p.Epochs) + 16*len(p.Later)
	room := func(n int) {
		if size > 0 && size+n > pieceSize/2 {
			p.More = true
			out = append(out, p)
			p, size = &Joined{}, 0
		}
		size += n
	}
	for _, a := range m.Running {
		room(32)
		p.Running = append(p.Running, a)
	}
	for _, a := range m.Instances {
		room(len(a.App) + len(a.Type) + len(a.ID) + 16)
		p.Instances = append(p.Instances, a)
	}
	return append(out, p)
}

// Up says that the owners have taken the join, or later, the exit.
type Up struct{}

// Refused ends a stream that cannot be used, with the reason.
type Refused struct {
	Code   runtime.Code
	Detail string
}

// Answer is the end of an attempt.
type Answer struct{ runtime.Answer }

// Deactivated confirms that an actor is no longer active: it repeats the last
// message that asked for it.
type Deactivated struct{ runtime.Deactivate }

// Beat is a sign of life; BeatAnswer is its echo once the owners have judged.
type Beat struct{ Seq uint64 }

// BeatAnswer renews the lease when Kept, from the moment the beat was sent, for
// all partitions but the silent ones.
type BeatAnswer struct {
	Seq    uint64
	Kept   bool
	Silent []uint16
	// Gateways is the list of the welcome anew, when it has changed.
	Gateways []string
	// WallMillis is the gateway's clock as in the welcome, read after the beat came.
	WallMillis int64
}

// Exit is proof that the host's processes have ended.
type Exit struct{ Reason string }

// Changed tells that the host takes nothing new (or does again).
type Changed struct{ Draining, Frozen bool }

// Request is an API request of the app. The host repeats it under the same ID
// on the next stream when this one breaks.
type Request struct {
	Seq    uint64
	ID     runtime.ID // zero when it needs none
	Method string
	Path   string // escaped, from /kar/v1 on, with any query string
	Header runtime.Header
	Body   []byte
}

// Response answers a Request.
type Response struct {
	Seq    uint64
	Status int
	Header runtime.Header
	Body   []byte
}

// Got says that the outcomes of plain calls have arrived and need not be kept.
type Got struct{ IDs []runtime.ID }

// Cancel says that nobody waits for a Request any more. It cancels no work.
type Cancel struct{ Seq uint64 }
