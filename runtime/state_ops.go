package runtime

// Field is one entry of an actor's state: a plain key, or a subkey of a submap.
// A plain key and a submap of the same name are two different things.
type Field struct {
	Key   string
	Sub   string
	InMap bool // Sub is meaningful: the entry Key/Sub of submap Key
	Value []byte
}

// StateVerb is what to do with an actor's state.
type StateVerb uint8

// The verbs; the KAR 1.x routes of kar-compat 1.6 map onto them one to one.
const (
	StateGet      StateVerb = iota // one entry
	StateSet                       // one entry; Created tells whether it is new
	StateDelete                    // one entry; N is 0 or 1
	StateMap                       // all entries of submap Key
	StateMapClear                  // remove all entries of submap Key; N is how many
	StateAll                       // everything
	StateUpdate                    // many changes in one atomic step
	StateClear                     // everything away; N is 1 when there was anything
)

// Reads tells verbs that change nothing.
func (v StateVerb) Reads() bool { return v == StateGet || v == StateMap || v == StateAll }

// A StateOp is one read or change of an actor's state, atomic as a whole.
type StateOp struct {
	Actor Actor
	Verb  StateVerb
	Key   string
	Sub   string
	InMap bool // the entry Key/Sub rather than the plain key Key (Get, Set, Delete)
	Value []byte

	// StateUpdate only: removals happen first.
	Sets    []Field
	Removes []Field // Value unused

	// Boot is the host the op comes from, "" for a client outside: the owner
	// refuses writes of a lost boot.
	Boot string
	// ID is the id under which a change is repeated, zero for none.
	ID ID
}

// MaxFields is how many entries one change may set and remove: all of them are one step, in
// which everybody else waits who has to do with the partition.
const MaxFields = 10_000

func (op *StateOp) changes() int { return len(op.Sets) + len(op.Removes) }

// Check refuses an operation that nobody may ask for.
func (op *StateOp) Check() *Error {
	if n := op.changes(); n > MaxFields {
		return Errorf(CodeTooLarge, "the change of state has %d keys, the limit is %d; make several changes of it", n, MaxFields)
	}
	return nil
}

// A StateResult answers a StateOp.
type StateResult struct {
	Found   bool
	Value   []byte
	Created bool
	N       int
	Added   int
	Removed int
	Fields  []Field // StateMap, StateAll: sorted by Key, InMap, Sub
}
