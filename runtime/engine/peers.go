package engine

import (
	"context"

	"github.com/karmesh/kar/runtime"
)

// This file is what the gateways of one mesh say to each other. Ops are
// questions to the owner of a partition and have one answer; notes have none.
// Both travel on one stream for each pair of gateways
// (gateway/peer); when it breaks, answers are missing and notes are lost, and
// what matters is asked or told again.

// Peers carries ops and notes to the other gateways; nil in local mode.
type Peers interface {
	// Connect keeps streams to these gateways, and to no others.
	Connect(members []runtime.Member)
	// Ask has node do op. The error CodeNotOwner means that there is no stream: nothing
	// was sent. CodeAskAgain means that it broke before the answer: whether the op was
	// done is unknown.
	Ask(ctx context.Context, node string, op *Op) (*Result, error)
	// Tell queues a note. It does not block; without a stream the note is lost.
	Tell(node string, note *Note)
	// Close ends all streams.
	Close() error
}

// A PeerHandler is this node as its peers see it; *Mesh implements it.
type PeerHandler interface {
	// Serve does op for another node. It does not block; reply is called once,
	// from any goroutine, perhaps before Serve returns. Ctx ends when the asker
	// has gone or given up. What one stream brings of one app, and from one partition
	// to another, is handed over in order; so are notes of neither, which may overtake
	// all else (gateway/peer says it in full).
	Serve(ctx context.Context, from string, op *Op, reply func(*Result))
	// Heard takes a note; it does not block.
	Heard(from string, note *Note)
	// PeerUp says that the stream to node stands: what is told from now on
	// arrives, as long as no PeerDown comes.
	PeerUp(node string)
	// PeerDown says that the stream broke. Dead is true when nothing of the
	// other end listens at its address any more, which is a reason to try what it
	// owned, and no proof that its process has ended.
	PeerDown(node string, dead bool)
	// PeerKnocked says that a gateway dials this one that Connect was not told of,
	// and at which address it can be reached, if it says so.
	PeerKnocked(node, address string)
}

// An Op is a question to the owner of a partition. One of the fields below ID is set.
type Op struct {
	Partition uint16
	// Epoch is the highest term of the partition that the asker knows of; an
	// owner of an earlier one has been deposed. With HandOver it is the last one that
	// the asker has read in its log.
	Epoch uint64
	// Boot is the host that asks and ID that of its request, for Subscribe.
	Boot string
	ID   runtime.ID

	Submit          *SubmitOp
	Await           *runtime.Await // Waiter and View unused
	Cancel          *runtime.Cancel
	State           *runtime.StateOp
	SetReminder     *runtime.SetReminder
	CancelReminders *runtime.CancelReminders
	Subscribe       *runtime.Subscription
	Unsubscribe     *runtime.Unsubscribe
	Purge           *runtime.Purge
	Drain           *runtime.Drain
	CancelAll       *runtime.CancelAll
	SetService      *runtime.SetService
	Query           *runtime.Query
	Known           *KnownOp
	Publish         *PublishOp
	HandOver        *HandOverOp
}

// SubmitOp asks for a request to be accepted (and, for a call, completed).
type SubmitOp struct {
	Request runtime.Request
	// Vouched is set by the owner of the caller, for a nested call whose caller
	// lives in another partition.
	Vouched *runtime.Vouched
}

// PublishOp publishes an event unless it has been published under the id.
type PublishOp struct {
	App, Boot string
	ID        runtime.ID
	Topic     string
	Event     runtime.Event
}

// KnownOp asks for the actors of an app (Type "" for all types) that have state.
type KnownOp struct{ App, Type string }

// HandOverOp asks the owner to give the partition to the asking node, which has
// read the log already. The owner answers when it has stepped down.
type HandOverOp struct{}

// A Result answers an Op.
type Result struct {
	Err     *runtime.Error
	Outcome *runtime.Outcome
	Open    bool // Outcome is an answer for now, the request goes on
	ID      runtime.ID
	State   *runtime.StateResult
	// Value is JSON, for everything else; what it holds depends on the op.
	Value []byte
}

// A Note is told, not asked. One field is set.
type Note struct {
	// Owns tells which partitions the sender owns: all of them.
	Owns *OwnsNote
	// Input is for a partition that the receiver owns (or did).
	Input *InputNote
	// About hosts attached to the sender, for the owners at the receiver.
	Host *HostNote
	// ToHost is for a host attached to the receiver, from an owner at the sender.
	ToHost *ToHostNote
	// Taken answers HostNote.Up and HostNote.Down.
	Taken *HostTaken
	// Beats are signs of life of hosts attached to the sender; Kept answers them.
	Beats *BeatsNote
	Kept  *KeptNote
	// Services: the list of url components has changed.
	Services bool
}

// OwnsNote lists what a gateway owns.
type OwnsNote struct {
	Partitions []runtime.PartitionEpoch
	// Claiming are partitions that it is about to own: nobody else need try.
	Claiming []uint16
	Leaving  bool
	// Self is the sender as it would stand in the list, without what it owns.
	Self *runtime.Member
	// Listed are the gateways in the sender's list, nil while it cannot be read.
	Listed []string
	// Knows are the gateways to which the sender's streams stand: who hears from
	// the sender knows that they live, whatever the list says.
	Knows []runtime.Member
}

// InputNote is an input for another partition.
type InputNote struct {
	Partition      uint16
	Deliver        *runtime.Deliver
	Acked          *runtime.Acked
	FenceAsk       *runtime.FenceAsk
	FenceAnswered  *runtime.FenceAnswered
	Release        *runtime.Release
	GroupAsk       *runtime.GroupAsk
	GroupOpen      *runtime.GroupOpen
	BesideAsk      *runtime.BesideAsk
	BesideAnswered *runtime.BesideAnswered
}

// HostNote is about one host. One field beside Boot and App is set.
type HostNote struct {
	Boot string
	// App of the host: what is told of the hosts of one app keeps its order, with
	// the app's ops. Up and Changed say it themselves.
	App string
	// Seq names Up and Down notes that are answered by HostTaken.
	Seq         uint64
	Up          *HostUpNote
	Changed     *runtime.HostInfo
	Unlinked    bool
	Attachment  uint64  // beside Unlinked: which one has ended
	Down        *string // the reason: proof that the boot has stopped
	Answered    *runtime.Answer
	Deactivated *runtime.Deactivate // what the host was asked, and confirms
	Later       *runtime.TermSeen
}

// HostUpNote is a host's join with some partitions.
type HostUpNote struct {
	Info runtime.HostInfo
	// Epochs are the partitions that the join is for, with the terms that the
	// host was asked for: an owner of another term waits for its own join.
	Epochs []runtime.PartitionEpoch
	Join   runtime.JoinAnswer
}

// HostTaken answers a HostNote with a Seq.
type HostTaken struct {
	Seq uint64
	Err *runtime.Error // CodeHostLost: the boot was counted lost
}

// ToHostNote is a message to a host. One field beside Boot is set.
type ToHostNote struct {
	Boot string
	App  string // of the host, see [HostNote]
	// Attachment is the one by which the sender knows the host; when it is over the
	// message vanishes.
	Attachment uint64
	Invoke     *runtime.Invoke
	Deactivate *runtime.Deactivate
	Taken      *runtime.Taken
	Verdict    *runtime.Verdict
	TermLost   *runtime.TermLost
}

// BeatsNote are the hosts that were heard of.
type BeatsNote struct {
	Seq   uint64
	Boots []string
}

// KeptNote answers BeatsNote: Partitions are those of the sender that know the
// boots to be alive, Lost are boots that were counted lost.
type KeptNote struct {
	Seq        uint64
	Partitions []uint16
	Lost       []string
	// Unknown are boots of which the owners do not know that they are attached
	// to the gateway that asked.
	Unknown []string
}
