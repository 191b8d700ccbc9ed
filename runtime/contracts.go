package runtime

import (
	"context"
	"time"
)

// A Log is one partition's append-only, durable sequence of records; the only
// judge of who owns the partition. runtimetest.LogSuite states its laws as tests.
type Log interface {
	// Append makes the batch durable and in order, and returns the offset of its
	// first record and the one behind its last. The batch is in one row exactly if
	// next-first is its length; else records of other writers, or of an earlier
	// try, lie between. One Append is in flight at a time. An error wrapped in
	// *UnknownError means that the batch may or may not be in the log, now or
	// later: append the same bytes again and nothing else until an answer comes.
	// Any other error means it certainly is not. The records must not be changed
	// afterwards; the slice that holds them is the caller's again.
	Append(ctx context.Context, batch [][]byte) (first, next uint64, err error)
	// Read calls visit for each record from offset on (or from the start of
	// the log when that is later) up to the end as it is at the call. The
	// bytes are valid during the visit only.
	Read(ctx context.Context, from uint64, visit func(offset uint64, record []byte) error) error
	// Bounds are the offset of the first kept record and of the next one to be appended.
	Bounds(ctx context.Context) (start, end uint64, err error)
	// Trim removes records before offset, perhaps later, perhaps not all.
	Trim(ctx context.Context, before uint64) error
	// Size is the number of bytes held.
	Size() int64
	Close() error
	// A log that has one implements MaxRecord() int, too: the bytes of the largest
	// record that it takes. It refuses larger ones with CodeTooLarge.
}

// UnknownError wraps the cause of an append whose outcome is not known.
type UnknownError struct{ Cause error }

func (e *UnknownError) Error() string { return "append outcome unknown: " + e.Cause.Error() }
func (e *UnknownError) Unwrap() error { return e.Cause }

// A Store is a view of the log: a map of byte strings for each partition, with
// the position up to which the log has been applied. It may be lost and
// rebuilt. runtimetest.StoreSuite states its laws as tests.
type Store interface {
	// Apply writes the mutations and sets applied to `to` in one atomic step,
	// but only when applied is `from`; it returns applied as it then is, so an
	// answer other than `to` means: nothing was written, start again from there.
	Apply(ctx context.Context, partition uint16, from, to uint64, writes []Mutation) (applied uint64, err error)
	// Applied is the position up to which the view is complete.
	Applied(ctx context.Context, partition uint16) (uint64, error)
	// Read runs fn on a consistent snapshot. When the view moved under fn and
	// what it had seen cannot be had any more, fn is called again from the
	// beginning, so it must make anew whatever it collects. An error of the
	// snapshot ends fn.
	Read(ctx context.Context, partition uint16, fn func(Snapshot) error) error
	// Sync returns the applied position that would survive a crash from now on.
	Sync(ctx context.Context, partition uint16) (durable uint64, err error)
	Close() error
}

// A Mutation is one change to the view. Keys are opaque bytes that sort.
type Mutation struct {
	Key []byte
	// Value nil deletes Key.
	Value []byte
	// Prefix deletes every key that starts with Key; Value is ignored.
	Prefix bool
	// Expires, when not 0, is the Unix second after which the entry may vanish.
	Expires int64
}

// A Snapshot is a frozen view of one partition.
type Snapshot interface {
	Applied() uint64
	// Get returns nil, nil for an absent (or expired) key. The slice is the caller's.
	Get(key []byte) ([]byte, error)
	// Scan visits the entries whose key starts with prefix in order until visit
	// returns false. The slices are valid during the visit only.
	Scan(prefix []byte, visit func(key, value []byte) bool) error
}

// Topics are the logs of events that users name; global in a mesh.
// runtimetest.TopicsSuite states the laws as tests.
type Topics interface {
	// Create reports whether the topic is new.
	Create(ctx context.Context, topic string) (created bool, err error)
	// Delete removes topic and records; an unknown topic is no error.
	Delete(ctx context.Context, topic string) (existed bool, err error)
	// List returns the names, sorted.
	List(ctx context.Context) ([]string, error)
	// Existing are those of some names that are topics, at a cost that grows with the
	// lesser of their number and that of all topics.
	Existing(ctx context.Context, topics []string) ([]string, error)
	// Publish appends durably and returns the offset; an *Error with
	// CodeTopicMissing when there is no such topic.
	Publish(ctx context.Context, topic string, event Event) (offset int64, err error)
	// Bounds are the first kept offset and the next one. A topic that is
	// deleted and created again goes on counting from where it was.
	Bounds(ctx context.Context, topic string) (start, end int64, err error)
	// Fetch returns up to max events from offset on. It waits until ctx ends for an
	// event, or for a gap.
	Fetch(ctx context.Context, topic string, offset int64, max int) (Fetched, error)
	Close() error
}

// Fetched is what a Fetch has found.
type Fetched struct {
	Events []Event
	// Next is where to go on: behind the events, and behind what was looked at and is
	// none. It is right also beside an error, and when there are no events.
	Next int64
	// Missing is what the topic no longer holds in front of the events; nil for nothing.
	Missing *Gap
}

// A Gap is a range of offsets, From included and To not.
type Gap struct {
	From, To int64
	// End: they are the end that the topic had, which is lost though it was confirmed.
	End bool
}

// An Event is one record of a topic.
type Event struct {
	Offset int64
	Key    []byte
	Header Header
	Body   []byte
}

// Members is the list of the mesh's gateways, as each of them says it. It is a
// hint: it says when somebody should try to own a partition, never who owns it.
// runtimetest.MembersSuite states the laws as tests.
type Members interface {
	// Announce sets this gateway's entry, which is valid for ttl by the clock of
	// the store, and returns all valid entries, sorted by Node. With an error it may
	// return entries too, those that are over included: the list could be read, but
	// takes no entry now.
	Announce(ctx context.Context, m Member, ttl time.Duration) ([]Member, error)
	// Leave removes an entry at once; an unknown node is no error.
	Leave(ctx context.Context, node string) error
}

// A Member is one gateway process.
type Member struct {
	Node    string // its boot id
	Address string // where the other gateways reach it, http://host:port or https://…
	Version string
	// Level is the highest format of records that it reads and writes.
	Level int
	// Leaving gateways give away what they own and take nothing.
	Leaving bool
	// Lease of hosts and of gateways in ms, the same on all.
	Lease, GatewayLease int64
	// Log tells its log from all others but copies, "" when that does not say.
	Log string
	// Joined: it has owned something.
	Joined bool
	// Shuns are partitions to whose logs it could not write, and which others should own.
	Shuns []uint16 `json:",omitempty"`
	// Lacks are other gateways that live and to which it has no stream of its own: what
	// components there do cannot reach it.
	Lacks []string `json:",omitempty"`
	// Owns are the partitions it owns, for those who cannot ask it.
	Owns []PartitionEpoch
}
