package runtime

// Now is the time of an input, handed in by the engine.
type Now struct {
	Wall int64 // Unix milliseconds
	Mono int64 // milliseconds of a clock that does not jump
}

// EffectKind says which fields of an Effect count.
type EffectKind uint8

const (
	// Reply: tell Waiter the Outcome, ID, Value or Err.
	Reply EffectKind = iota
	// ToHost: send Msg to Boot.
	ToHost
	// ToPartition: send outbox message N with Payload to Partition (input Deliver there).
	ToPartition
	// AckPartition: tell Partition that its messages up to N are recorded (input Acked there).
	AckPartition
	// ToOwner: hand Value, an Input, to Partition; nothing depends on its arrival.
	ToOwner
	// WatchChild: find out when the child ID at its home completes, and then what
	// the generation of Target's app is there (input ChildClosed here, with the
	// parents that are its Value, an []ID).
	WatchChild
	// AppError: a tell ended with an error, or a promise with one of the app
	// (Outcome); for the log.
	AppError
	// LostHost: Boot was counted lost or has ended (Value is a [HostEnd]); its link may be closed.
	LostHost
	// LostTerm: the log has lost a term of which host Boot has heard (Msg is the
	// [TermLost] for it); for the host and for the log.
	LostTerm
	// GroupsChanged and ServicesChanged: lists that others follow have changed.
	GroupsChanged
	ServicesChanged
	// GenerationChanged: an app was purged; what is known of its generation is old.
	GenerationChanged
	// NeedBody: read the body of request ID from record N of the log (input BodyRead here).
	NeedBody
)

// An Effect is to be carried out once everything appended before it is durable.
type Effect struct {
	Kind      EffectKind
	Waiter    any
	Outcome   *Outcome
	Open      bool // Outcome is an answer to those who wait now; the request goes on
	ID        ID
	Value     any
	Err       *Error
	Boot      string
	Msg       HostMessage
	Partition uint16
	N         uint64
	Payload   []byte
	Target    Target
}

// A HostEnd says why a host will not come back.
type HostEnd struct {
	App, Name string // "" when the partition never met it
	Reason    string
	// Proven: it was reported that the host has stopped, nobody lost it.
	Proven bool
}

// An Input is one thing that happened.
type Input interface{ decide(*Core) }

// StoreChange is what a record means for the store.
type StoreChange struct {
	Seq    uint64
	Writes []Mutation
}

// OnlyReads tells a read of state. It sees what was acknowledged before it was
// asked; among inputs that nobody has an answer to yet it may go first. (A Query
// may not: whoever tells something without waiting, and then asks, expects to
// see it.)
func OnlyReads(in Input) bool {
	s, ok := in.(*StateInput)
	return ok && s.Op.Verb.Reads()
}

// WaiterOf is who waits for the reply to an input, nil for nobody.
func WaiterOf(in Input) any {
	switch in := in.(type) {
	case *Submit:
		return in.Waiter
	case *Await:
		return in.Waiter
	case *Cancel:
		return in.Waiter
	case *CancelAll:
		return in.Waiter
	case *Vouch:
		return in.Waiter
	case *HostJoined:
		return in.Waiter
	case *HostsBeat:
		return in.Waiter
	case *StateInput:
		return in.Waiter
	case *SetReminder:
		return in.Waiter
	case *CancelReminders:
		return in.Waiter
	case *Subscribe:
		return in.Waiter
	case *Publish:
		return in.Waiter
	case *Unsubscribe:
		return in.Waiter
	case *DeliverEvents:
		return in.Waiter
	case *Query:
		return in.Waiter
	case *Purge:
		return in.Waiter
	case *Drain:
		return in.Waiter
	case *SetService:
		return in.Waiter
	}
	return nil
}

// IsHeader tells whether an encoded record is a header, in front of which the log may be cut.
func IsHeader(b []byte) bool {
	return len(b) > 1 && b[0] == 1<<1 && b[1] == kindHeader // the envelope's first field
}

// HeaderTime is when an encoded header was decided, in Unix milliseconds; 0
// when the record is none, or does not say.
func HeaderTime(b []byte) int64 {
	if !IsHeader(b) {
		return 0
	}
	r, err := DecodeRecord(b)
	if err != nil {
		return 0
	}
	h, _ := r.Body.(*header)
	return h.at
}
