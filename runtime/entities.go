package runtime

// What a partition knows. Fields marked "memory" are not in the log: they are
// rebuilt (children, indexes) or lost with the owner (waiters, timers).

// A phase is where a request stands.
type phase uint8

const (
	delayed phase = iota // its time has not come (Kar-Delay, Kar-Not-Before)
	queued               // in the mailbox of its target
	held                 // a tail call to the same actor: holds the lock, not started
	running              // attempt `attempt` was given to `host` and is not known to have stopped
	stopped              // the last attempt has provably stopped without an outcome; retry due
	gone                 // completed, left for another partition, or forgotten
)

// An entry is a request that executes in this partition.
type entry struct {
	node
	req         Request
	flow        ID
	home        uint16
	parents     []ID
	parentPart  uint16
	parentEpoch uint64
	parentStep  uint32
	at          int64  // wall clock of acceptance
	order       uint64 // place in the mailbox
	came        uint64 // record with which it came here; in front of which lines it stands
	step        uint32
	attempt     uint32
	host        string
	grace       int64
	epoch       uint64 // term in which the last attempt was started
	phase       phase
	cancelled   bool
	among       uint32  // of a suspect: how many may run on its host, itself included; 0 for others
	tried       uint32  // interrupted attempts before the last for which nobody else is to blame
	alone       bool    // the last attempt was interrupted, and nobody of this partition is to blame but itself
	fired       *firing // of the reminder that has fired; nil for none, and in what has come home
	due, count  int64
	from        groupLife // of the event that began it; zero for none

	size int // of the body

	// memory
	seat     seat   // in the roll of its app
	abroad   *seat  // among those with callers in the same other partition
	withBoot *seat  // among those that end with their calling boot
	given    uint64 // its number among what its host was given, from 1; 0 when it does not run
	shaken   bool   // it was interrupted by a loss, and is still to be looked at
	ready    bool   // it is in the line of its actor
	bodyAt   uint64 // the record that holds the body
	weight   int    // bytes beside the body
	asked    bool   // the body is being read
	keeping  bool   // and the entry is to be kept then
	unsent   bool   // and the attempt is to be sent then
	inside   bool   // nothing of the last attempt is at its host, for want of the body
	summed   bool   // the sum of req was made for want of the body
	lined    *line  // of its parking, where it waits
	turn     uint64 // its place there as a suspect: who is due first goes first
	turnAt   int64  // monotonic ms from which a suspect in line waits for no turn
	void     bool   // the last attempt has provably not begun
	blamed   bool   // of an alone one: nobody of another partition is to blame either
	apart    bool   // suspects of other partitions ran beside it
	leaves   uint64 // nothing of the last attempt is at its host before this round
	began    uint64 // record that started the last attempt, in this term
	lent     int    // how many calls have borrowed it
	sought   bool   // work on a host has asked for its outcome
	flowAt   int    // its place among those of its flow
	waiters  []any
	guestAt  int64         // monotonic ms from which a limit of a guest may have passed; 0 for never
	children map[ID]uint32 // of each how many ask for it in this term, see Vouch; 0 when it is known to have been accepted
	retryAt  int64         // monotonic ms before which no retry starts
	timer    timer         // by the clock that does not jump
	wall     timer         // by the wall clock, for times that the caller has named
	since    int64         // monotonic ms from which the limits count; once started, of the last start in this term
	answered bool          // waiters were told a limit; later askers wait for the outcome
}

// lockHolder tells whether the entry keeps its actor busy.
func (e *entry) lockHolder() bool {
	return e.phase == held || e.phase == running || e.phase == stopped
}

// started tells interrupted work, to which limits before the first start no longer apply.
func (e *entry) hasStarted() bool { return e.attempt > 0 || e.step > 0 }

// An ending is a plain outcome that its caller may not have yet.
type ending struct {
	node
	id      ID
	app     string
	outcome *Outcome
	at      int64 // wall clock of the end
	noted   int64 // memory: monotonic ms at which that was applied
	size    int
}

// An actorEntry exists while the actor is active somewhere or has work.
type actorEntry struct {
	node    // of the placement
	actor   Actor
	host    string       // boot where it is placed, "" for none
	flow    ID           // of the requests that hold the lock
	running int          // how many of those run
	resting line         // those that do not: interrupted ones, and the next step of a chain
	queue   line         // waiting for the lock
	nested  map[ID]*line // nested calls in queue, by flow
	zombies []zombie     // attempts of an earlier generation that may still run
	stale   bool         // must be deactivated before new work (purge)

	// memory
	awaited   int    // how many in queue are awaited by running work
	unkept    bool   // it is in Core.unkept
	ready     line   // of resting: for which something has changed since they were looked at, or which wait for no more than a host
	hauntAt   int    // among the haunted of the host of its zombies
	hauntTurn uint64 // when it got the first of them
	placeAt   int    // among the actors of its host
	asking    uint64 // the number of the [Deactivate] that is to be confirmed, 0 for none
	dirty     bool
	idleSince int64
	idleTurn  uint64
	idle      bool
	parked    bool
	urgent    bool   // running work waits for it, while parked
	parkTurn  uint64 // of its last parking
	parkHost  string // and where it was placed then
}

type zombie struct {
	id      ID
	attempt uint32
	host    string
}

func (z *zombie) fields(c *codec) {
	c.id(1, &z.id)
	c.u32(2, &z.attempt)
	c.str(3, &z.host)
}

// look has the actor look at a resting request.
func (a *actorEntry) look(e *entry) {
	if !e.ready {
		e.ready = true
		a.ready.add(e)
	}
}

func (a *actorEntry) unready(e *entry) {
	if e.ready {
		e.ready = false
		a.ready.remove(e)
	}
}

// locked tells that a flow holds the actor.
func (a *actorEntry) locked() bool { return a.running > 0 || a.resting.len() > 0 }

// work is how many requests it has that are not delayed.
func (a *actorEntry) work() int { return a.queue.len() + a.running + a.resting.len() }

func (a *actorEntry) enqueue(e *entry) {
	a.queue.add(e)
	if e.awaited() {
		a.awaited++
	}
	if e.flow == e.req.ID {
		return
	}
	l := a.nested[e.flow]
	if l == nil {
		if a.nested == nil {
			a.nested = map[ID]*line{}
		}
		l = &line{}
		a.nested[e.flow] = l
	}
	l.add(e)
}

func (a *actorEntry) dequeue(e *entry) {
	if !a.queue.remove(e) {
		return
	}
	if e.awaited() {
		a.awaited--
	}
	if l := a.nested[e.flow]; l != nil && l.remove(e) && l.len() == 0 {
		delete(a.nested, e.flow)
	}
}

func (a *actorEntry) empty() bool {
	return a.host == "" && !a.locked() && a.queue.len() == 0 && len(a.zombies) == 0
}

// A component is what hosts offer and requests wait for.
type component struct {
	app   string
	name  string
	actor bool
}

func componentOf(t Target) component { return component{t.App, t.Component(), t.IsActor()} }

// A hostEntry is a boot that the partition has to do with.
type hostEntry struct {
	boot    string
	info    HostInfo
	known   bool // it has joined this owner (else only records name it)
	linked  bool
	contact int64 // monotonic ms of the last sign of life
	grace   int64
	running map[ID]*entry    // changed by take and release alone
	gave    uint64           // memory: how often it was given something
	halted  heapOf           // memory: what it ran when it was lost, still to be looked at
	bytes   int              // of the bodies of running
	flows   map[ID]flowCount // of running
	beside  company
	stops   stopList      // memory: what has stopped there while it lived
	joined  int64         // memory: monotonic ms of its first join with this owner
	among   uint32        // memory: the smallest of its suspects
	begun   int64         // memory: monotonic ms at which the last suspect was given to it
	full    bool          // memory: something waits for room
	review  *review       // memory: that is not gone through yet
	placed  []*actorEntry // changed by place and displace alone
	idle    []idleActor   // by since; actors that were busy again are skipped
	// lines of actors that are placed here and wait for room, by component
	lines map[component][]parkedActor
}

// take and release are the one account of what a host is given.
func (h *hostEntry) take(e *entry) {
	h.running[e.req.ID] = e
	h.give(e)
	h.bytes += e.size
	if e.suspect() && (h.beside.suspects == 0 || e.among < h.among) {
		h.among = e.among
	}
	h.count(e, 1)
}

// give numbers a request that the host was given.
func (h *hostEntry) give(e *entry) {
	h.gave++
	e.given = h.gave
}

func (h *hostEntry) release(e *entry) bool {
	if h.running[e.req.ID] != e {
		return false
	}
	delete(h.running, e.req.ID)
	e.given = 0
	h.bytes -= e.size
	h.count(e, -1)
	return true
}

// An idleActor is void once the actor has fallen idle anew, or was needed.
type idleActor struct {
	a    *actorEntry
	turn uint64
}

// A reminderEntry is one reminder and the firing that is under way.
type reminderEntry struct {
	node
	Reminder
	firing  ID // the request of the last firing while it is unfinished
	index   int
	leaving bool // memory: it is being deleted
	late    bool // memory: it is due and waits until its app has room, among those of the app
}

// A groupEntry is one cursor in a topic and the subscriptions that share it.
type groupEntry struct {
	node
	key     string
	topic   string
	next    int64
	life    uint64                // position of the record that made it
	moving  moving                // memory: the place behind the first of the records that keep it
	keptTo  *subEntry             // memory: the last one that is kept anew, while others are left
	members []*subEntry           // sorted by actor and id
	split   uint64                // the purge of its app before it got this name at level 2
	away    map[uint16]*awayTells // memory: by partition of its members
	size    int64                 // memory: about what one of those takes
}

type subEntry struct{ Subscription }

// An appEntry holds the facts of an app.
type appEntry struct {
	node
	name       string
	generation uint64
	purged     uint64          // record that began it: what is older is of the one before
	purgedAt   int64           // wall clock of the purge that began it
	noted      int64           // memory: monotonic ms at which that was applied
	used       bool            // something was done with it since
	services   []*serviceEntry // by name
	open       int             // memory: entries of the app
	roll       roll            // memory: those, and its chains that are away
	drains     []*clearing     // memory: that wait for some of those, by how many
	holds      int             // memory: its reminders and placed actors, that a purge has to let go of
	members    int             // memory: its members of groups
	// memory: a purge has not ended all that it found open, and what waits for that
	purging    bool
	left       uint64 // rounds that had left when it began
	heldActors []*actorEntry
	heldParks  []component
	bytes      int64 // memory: what they take
	events     int64 // memory: and those of them that events have become
	fired      int64 // memory: or reminders
	lasting    int64 // memory: what its reminders and subscriptions take
	links      int   // memory: their unfinished calls, for each of their callers
}

// A serviceEntry is a url component of an app.
type serviceEntry struct {
	node
	app string
	serviceFact
}

// A lostEntry is a boot that never comes back.
type lostEntry struct {
	node
	boot   string
	at     int64 // wall clock of the loss
	noted  int64 // memory: monotonic ms at which that was applied
	beside company
}

// An outbox is what another partition has not confirmed yet.
type outbox struct {
	next    uint64               // number of the next message
	first   uint64               // memory: no pending one has a lower number
	pending map[uint64]*outEntry // by number
	size    int                  // memory: bytes of them
	purges  []purgeSent          // memory: that wait for them, by number
	// memory: the last one that was sent again, and when; 0 when none was that
	// is not confirmed
	again   uint64
	againAt int64
}

type outEntry struct {
	node
	to      uint16
	n       uint64
	payload []byte
	sent    int64 // memory: monotonic ms, 0 when it has to be sent
}
