package runtime

import (
	"cmp"
	"slices"
	"sort"
)

// Config of a core. All durations are milliseconds.
type Config struct {
	Mesh            string
	Partition       uint16
	Partitions      int
	Node            string // boot id of this gateway
	Address         string // where other gateways reach it, "" for a mesh of one
	Lease           int64
	IDWindow        int64
	ResultRetention int64
	RecordLimit     int // bytes of the largest record that the log takes; 0 means no bound
	MailboxLimit    int
	// WorkBytes bounds what open requests from outside take, wherever their bodies
	// are; an app may have half of it. 0 means no bound.
	WorkBytes   int64
	MaxAttempts int
	// OutcomeBytes bounds the outcomes kept for callers that have not taken them.
	OutcomeBytes int
	// Level is the highest level of records that this version reads and writes;
	// 0 means [Level].
	Level int
	// HostLimit and HostBytes bound what one host is given at a time, in
	// attempts and in bytes of their bodies; 0 means no bound.
	HostLimit int
	HostBytes int
}

// A Core is the state and the rules of one partition. It is not safe for
// concurrent use; one loop feeds it.
type Core struct {
	cfg Config
	me  uint64 // hash of cfg.Node
	now Now

	// the fold
	epoch uint64
	owner uint64
	// Who claimed last, and where it is reached; "" when the log does not say.
	claimNode, claimAddress string
	window                  int64 // its id window; 0 when the log does not say
	youngest                int64 // what was made before may have ended and been forgotten
	seq                     uint64
	terms                   uint64 // whose the terms before this one were, and where each ended: a digest
	sawHead                 bool
	skipped                 uint64 // highest epoch claimed in front of it
	head                    uint64 // position of the header with which the fold began, 0 for the first claim
	headAt                  int64  // when that was written, by the wall clock
	floor                   uint64 // up to which record the log may be cut
	gap                     uint64 // a record that is missing, 0 for none
	anew                    int    // see Anew
	markSeq                 uint64 // see LastMark
	markAt                  int
	changed                 uint64 // position of the last record that means something for the store
	level                   int    // of the records that may stand in this log; 0 means 1
	owned                   bool   // this core has applied the log up to its own valid claim

	entries   map[ID]*entry
	homes     map[ID]*homeEntry
	endings   map[ID]*ending
	ended     idWindow
	keys      map[string]ID
	flows     map[ID][]*entry
	actors    map[Actor]*actorEntry
	haunted   map[Actor]*actorEntry    // actors with zombies
	hauntedOn map[string][]*actorEntry // the same by the boot of their zombies, which is one
	ghosts    map[ID]*actorEntry       // the same by the request of a zombie
	// The zombies of a keptActor that goes on, and its first record.
	keptZombies []zombie
	keptFrom    uint64
	cancels     map[string]*roll // by calling boot: to be withdrawn when it is lost
	parked      map[component]*parking
	hosts       map[string]*hostEntry
	offers      map[component][]*hostEntry // sorted by boot
	wanted      map[component]int          // how many entries are for it
	lost        map[string]*lostEntry      // by boot
	reminders   map[Actor]reminderList
	remCount    int
	firings     map[ID]*reminderEntry // by the request of the unfinished firing
	fired       map[Actor][]*firing   // unfinished firings by the actor of their reminder, in no order
	due         reminderHeap
	late        map[string]*reminderHeap // by app: due ones that wait until it has room
	subs        map[Actor]map[string]*subEntry
	groups      map[string]*groupEntry
	// The same sorted by key, and found by a member.
	groupOrder  []*groupEntry
	memberOf    map[memberKey]*groupEntry
	tells       map[groupLife]*groupTells // unfinished work of events
	wishes      map[ID]*wish              // to end chains that may still come
	borrowings  map[ID]*borrowing         // calls that wait for the request of their key
	borrowers   map[ID][]*borrowing       // the same by that request, in order
	clearings   map[ID]*clearing          // drains and cancels of all, by the ids of those
	clearingsOf map[string]int            // memory: how many those are, by app
	pasts       map[pastKey]*past         // replaced attempts of steps that have ended
	apps        map[string]*appEntry
	out         map[uint16]*outbox
	in          map[uint16]uint64
	fences      map[uint16]uint64
	view        overlay
	keep        keepList
	load        load
	endSize     int

	// memory of the owner
	sweepTo     uint64       // the sweep ends behind this record
	sweepNext   bool         // another purge came meanwhile: once more
	lostOrder   []*lostEntry // oldest first
	oldPasts    fading[*past]
	oldWishes   fading[*wish]
	oldClears   fading[*clearing]
	strangers   map[string]bool // boots that have ended and never had anything from here
	strange     []string        // the same, oldest first
	timers      timerHeap       // by the clock that does not jump
	walls       timerHeap       // by the wall clock
	dirty       []*actorEntry
	dirtyParks  []component
	woken       []*entry      // interrupted requests of services to look at
	turns       uint64        // of suspects
	guests      map[any]guest // by waiter
	askings     uint64        // how often a host was asked to deactivate an actor
	waking      parkedActor   // of which a parked actor tries again
	losing      []*hostEntry  // lost, and still to be gone through
	reviews     []*review
	withdrawals []*withdrawal
	purging     []*appEntry       // whose purges go on, oldest first
	unkept      []*actorEntry     // haunted since the last purges, see keepHaunted
	budget      int               // what this step may still start
	looks       int               // and look at
	pieces      int               // and do of what goes in pieces
	haunts      uint64            // how often an actor got its first zombie
	drained     []*clearing       // to be answered
	purged      []*purge          // that all partitions have confirmed
	subCount    int               // of subs
	enrolled    uint64            // seats that were given
	abroad      map[uint16]*roll  // calls of which this is the home, by the partition of their callers
	orphans     map[ID]*homeEntry // the same, when an old record does not tell the partition
	purges      []*purge
	fenceWait   map[uint16]*fenceQuestion // of partitions that have not answered all of it
	fenceHeld   []*entry                  // whose retry waits for the answers
	fenceAsked  int64
	inquiries   map[string]*inquiry // by boot
	lastTick    int64
	ownedAt     int64            // monotonic ms at which the term began
	blocked     map[string][]any // waiters of full groups
	leaving     []*leaving       // subscriptions that are removed in pieces
	forgettings []*forgetting    // reminders, likewise

	publishings map[ID]*publishing // as far as published goes back
	published   []ID

	tables   tables // of Fold
	released []ID   // outcomes taken by their callers since the last round

	// output of the current step
	via     via
	records [][]byte
	effects []Effect
	rounds  uint64 // how many were handed over: their effects may have left
	changes []StoreChange

	// Counts since the core was made.
	Counts Counts
}

// Counts are for metrics.
type Counts struct {
	Accepted, Completed, Retried, RemindersFired, EventsDelivered, DeadLetters uint64
	ActiveActors, Running                                                      int
	Foreign                                                                    uint64 // what is in the log and is no record
}

type via struct {
	from uint16
	n    uint64
}

// New makes an empty core; feed it the log with Fold, then Claim.
func New(cfg Config) *Core {
	c := &Core{
		cfg: cfg, me: hash64(cfg.Node),
		entries: map[ID]*entry{}, homes: map[ID]*homeEntry{}, endings: map[ID]*ending{},
		keys: map[string]ID{}, flows: map[ID][]*entry{}, actors: map[Actor]*actorEntry{}, haunted: map[Actor]*actorEntry{}, hauntedOn: map[string][]*actorEntry{}, ghosts: map[ID]*actorEntry{}, cancels: map[string]*roll{}, guests: map[any]guest{},
		parked: map[component]*parking{}, hosts: map[string]*hostEntry{},
		offers: map[component][]*hostEntry{}, wanted: map[component]int{}, lost: map[string]*lostEntry{},
		reminders: map[Actor]reminderList{}, subs: map[Actor]map[string]*subEntry{},
		firings: map[ID]*reminderEntry{}, fired: map[Actor][]*firing{}, late: map[string]*reminderHeap{},
		groups: map[string]*groupEntry{}, memberOf: map[memberKey]*groupEntry{}, tells: map[groupLife]*groupTells{}, wishes: map[ID]*wish{}, borrowings: map[ID]*borrowing{}, borrowers: map[ID][]*borrowing{}, clearings: map[ID]*clearing{}, clearingsOf: map[string]int{}, pasts: map[pastKey]*past{}, publishings: map[ID]*publishing{}, apps: map[string]*appEntry{},
		out: map[uint16]*outbox{}, in: map[uint16]uint64{}, fences: map[uint16]uint64{},
		fenceWait: map[uint16]*fenceQuestion{}, abroad: map[uint16]*roll{}, orphans: map[ID]*homeEntry{}, inquiries: map[string]*inquiry{}, blocked: map[string][]any{},
	}
	c.strangers = map[string]bool{}
	c.load.least = leastShed
	c.view.groups = map[string]*viewGroup{}
	c.ended.buckets = map[int64]*idBucket{}
	return c
}

// Step decides one input. What it decided is in Take.
func (c *Core) Step(now Now, in Input) {
	c.now, c.budget, c.looks, c.pieces = now, stepBudget, stepLooks, pieceSize
	in.decide(c)
	c.settle()
	c.easeEndings()
}

// Take hands over the records to append, in order, and the effects to carry out
// once those records (and all earlier ones) are durable.
func (c *Core) Take() (records [][]byte, effects []Effect) {
	if len(c.records) > 0 && len(c.released) > 0 {
		for part := range slices.Chunk(c.released, idsInRecord) {
			c.emit(&released{part})
		}
		c.released = c.released[:0]
	}
	records, effects = c.records, c.effects
	c.records, c.effects = nil, nil
	c.rounds++
	return records, effects
}

// Recycle gives back what Take handed over, once it is no longer used.
func (c *Core) Recycle(records [][]byte, effects []Effect) {
	if c.records == nil && cap(records) <= maxRecycled {
		clear(records)
		c.records = records[:0]
	}
	if c.effects == nil && cap(effects) <= maxRecycled {
		clear(effects)
		c.effects = effects[:0]
	}
}

// maxRecycled keeps one large round from holding memory for ever.
const maxRecycled = 16 << 10

// Pending is how many records Take would hand over.
func (c *Core) Pending() int { return len(c.records) }

// TakeChanges hands over what the applied records mean for the store.
func (c *Core) TakeChanges() []StoreChange {
	ch := c.changes
	c.changes = nil
	return ch
}

// Owned tells whether this core may decide.
func (c *Core) Owned() bool { return c.owned }

// Epoch is the current term.
func (c *Core) Epoch() uint64 { return c.epoch }

// Seq is the position of the last valid record.
func (c *Core) Seq() uint64 { return c.seq }

// emit makes a decision durable-to-be and applies it.
func (c *Core) emit(body message, out ...OutMessage) {
	r := Record{Epoch: c.epoch, Owner: c.me, Seq: c.seq + 1, Body: body, Out: out}
	if c.via.n != 0 {
		r.ViaFrom, r.ViaN = c.via.from, c.via.n
		c.via = via{}
	}
	for i := range r.Out {
		box := c.outboxTo(r.Out[i].To)
		r.Out[i].N = box.next
		box.next++ // apply keeps the higher one
	}
	c.records = append(c.records, EncodeRecord(&r))
	c.apply(&r)
}

func (c *Core) effect(e Effect) { c.effects = append(c.effects, e) }

func (c *Core) reply(waiter any, outcome *Outcome, id ID) {
	if waiter != nil {
		delete(c.guests, waiter)
		c.effect(Effect{Kind: Reply, Waiter: waiter, Outcome: outcome, ID: id})
	}
}

func (c *Core) replyValue(waiter, value any) {
	if waiter != nil {
		c.effect(Effect{Kind: Reply, Waiter: waiter, Value: value})
	}
}

func (c *Core) refuse(waiter any, err *Error) {
	if waiter != nil {
		delete(c.guests, waiter)
		c.effect(Effect{Kind: Reply, Waiter: waiter, Err: err, ID: err.ID})
	}
}

// stepBudget bounds what one step starts; the rest follows with the next input.
const stepBudget = 500

// stepLooks bounds what one step looks at to find what may start.
const stepLooks = 4 * stepBudget

// settle starts whatever the input made startable, until nothing changes or the
// step has done its share.
func (c *Core) settle() {
	if !c.owned {
		return
	}
	for c.budget > 0 && c.looks > 0 && c.unsettled() {
		for ; len(c.dirty) > 0 && c.budget > 0 && c.looks > 0; c.looks-- {
			a := c.dirty[0]
			c.dirty = c.dirty[1:]
			a.dirty = false
			c.pumpActor(a)
		}
		for ; len(c.woken) > 0 && c.budget > 0 && c.looks > 0; c.looks-- {
			e := c.woken[0]
			c.woken[0] = nil
			c.woken = c.woken[1:]
			c.wake(e)
		}
		for ; len(c.dirtyParks) > 0 && c.budget > 0 && c.looks > 0; c.looks-- {
			comp := c.dirtyParks[0]
			c.dirtyParks = c.dirtyParks[1:]
			c.pumpParked(comp)
		}
	}
	c.checkDrains()
	c.checkPurges()
	c.askBeside()
}

// unsettled tells that something may be startable.
func (c *Core) unsettled() bool { return len(c.dirty) > 0 || len(c.woken) > 0 || len(c.dirtyParks) > 0 }

func (c *Core) touch(a *actorEntry) {
	if a != nil && !a.dirty {
		a.dirty = true
		c.dirty = append(c.dirty, a)
	}
}

func (c *Core) actorEntry(a Actor) *actorEntry {
	x := c.actors[a]
	if x == nil {
		x = &actorEntry{actor: a}
		c.actors[a] = x
	}
	return x
}

// dropActor forgets an actor that has neither work nor place.
func (c *Core) dropActor(a *actorEntry) {
	if a.empty() {
		if a.parked {
			c.unparkActor(Target{App: a.actor.App, Type: a.actor.Type, ID: a.actor.ID})
		}
		delete(c.actors, a.actor) // without a place and zombies it is not kept
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func sortEntries(es []*entry) {
	slices.SortFunc(es, func(a, b *entry) int { return cmp.Compare(a.order, b.order) })
}
