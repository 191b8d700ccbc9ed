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
	// AskFence: ask Partition to fence this partition's children below Epoch (input FenceAsk there).
	AskFence
	// FenceAnswer: answer Partition's FenceAsk with Pending (input FenceAnswered there).
	FenceAnswer
	// WatchChild: find out when the child ID at its home completes (input ChildClosed here).
	WatchChild
	// AppError: a tell ended with an application error; for the log.
	AppError
	// LostHost: Boot was counted lost; its link may be closed.
	LostHost
	// GroupsChanged and ServicesChanged: lists that others follow have changed.
	GroupsChanged
	ServicesChanged
)

// An Effect is to be carried out once everything appended before it is durable.
type Effect struct {
	Kind      EffectKind
	Waiter    any
	Outcome   *Outcome
	ID        ID
	Value     any
	Err       *Error
	Boot      string
	Msg       HostMessage
	Partition uint16
	Epoch     uint64
	N         uint64
	Payload   []byte
	Pending   []PendingChild
	Target    Target
}

// A PendingChild is an open call whose parent lives in the partition that asked.
type PendingChild struct{ Parent, Child ID }

// An Input is one thing that happened.
type Input interface{ decide(*Core) }

// StoreChange is what a record means for the store.
type StoreChange struct {
	Seq    uint64
	Writes []Mutation
}
