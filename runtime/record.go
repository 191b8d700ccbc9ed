package runtime

// A Record is one decision of a partition's owner. Its envelope makes it valid
// or void for every reader (see fold.go); Via and Out tie it to the outboxes of
// other partitions; Body says what was decided. Applying a record reads no
// clock, no configuration and no rule.
type Record struct {
	Epoch uint64 // term of the owner
	Owner uint64 // hash of the owner's boot id: two claims of one epoch differ
	Seq   uint64 // position among the valid records; 0 in a Claimed (the fold counts it)
	// Via is the outbox message that this record answers, once for all.
	ViaFrom uint16
	ViaN    uint64
	// Out are messages for other partitions that this record carries.
	Out  []OutMessage
	Body message
}

// An OutMessage is numbered in the log of the partition that sends it.
type OutMessage struct {
	To      uint16
	N       uint64
	Payload []byte
}

func (o *OutMessage) fields(c *codec) {
	c.u16(1, &o.To)
	c.u64(2, &o.N)
	c.bytes(3, &o.Payload)
}

// Record kinds. Numbers are for ever.
const (
	kindHeader       = 1
	kindClaimed      = 2
	kindAccepted     = 3
	kindStarted      = 4
	kindCompleted    = 5
	kindContinued    = 6
	kindUnplaced     = 7
	kindHostLost     = 8
	kindStateChanged = 9
	kindReminderSet  = 10
	kindReminderGone = 11
	kindSubscribed   = 12
	kindUnsubscribed = 13
	kindAppChanged   = 14
	kindFenced       = 15
	kindCancelled    = 16
	kindReceived     = 17
	kindDelivered    = 18
	kindAlive        = 19
	kindKeptRequest  = 20
	kindKeptActor    = 21
	kindKeptReminder = 22
	kindKeptGroup    = 23
	kindKeptIDs      = 24
	kindKeptOut      = 25
	kindReleased     = 26
	kindRaised       = 27
	kindKeptApp      = 35
	kindService      = 36
	kindPurged       = 37
	kindWished       = 40
	kindKeptPast     = 41
	kindBorrowed     = 44
	kindWaived       = 45
	kindCleared      = 46
)

func newBody(kind uint64) message {
	switch kind {
	case kindHeader:
		return &header{}
	case kindClaimed:
		return &claimed{}
	case kindAccepted:
		return &accepted{}
	case kindStarted:
		return &started{}
	case kindCompleted:
		return &completed{}
	case kindContinued:
		return &continued{}
	case kindUnplaced:
		return &unplaced{}
	case kindHostLost:
		return &hostLost{}
	case kindStateChanged:
		return &stateChanged{}
	case kindReminderSet:
		return &reminderSet{}
	case kindReminderGone:
		return &reminderGone{}
	case kindSubscribed:
		return &subscribed{}
	case kindUnsubscribed:
		return &unsubscribed{}
	case kindAppChanged:
		return &appChanged{}
	case kindFenced:
		return &fenced{}
	case kindCancelled:
		return &cancelled{}
	case kindReceived:
		return &received{}
	case kindDelivered:
		return &delivered{}
	case kindAlive:
		return &alive{}
	case kindKeptRequest:
		return &keptRequest{}
	case kindKeptActor:
		return &keptActor{}
	case kindKeptReminder:
		return &keptReminder{}
	case kindKeptGroup:
		return &keptGroup{}
	case kindKeptIDs:
		return &keptIDs{}
	case kindKeptOut:
		return &keptOut{}
	case kindReleased:
		return &released{}
	case kindRaised:
		return &raised{}
	case kindKeptApp:
		return &keptApp{}
	case kindService:
		return &serviceSet{}
	case kindPurged:
		return &purged{}
	case kindWished:
		return &wished{}
	case kindKeptPast:
		return &keptPast{}
	case kindBorrowed:
		return &borrowed{}
	case kindWaived:
		return &waived{}
	case kindCleared:
		return &cleared{}
	}
	return nil
}

func kindOf(m message) uint64 {
	switch m.(type) {
	case *header:
		return kindHeader
	case *claimed:
		return kindClaimed
	case *accepted:
		return kindAccepted
	case *started:
		return kindStarted
	case *completed:
		return kindCompleted
	case *continued:
		return kindContinued
	case *unplaced:
		return kindUnplaced
	case *hostLost:
		return kindHostLost
	case *stateChanged:
		return kindStateChanged
	case *reminderSet:
		return kindReminderSet
	case *reminderGone:
		return kindReminderGone
	case *subscribed:
		return kindSubscribed
	case *unsubscribed:
		return kindUnsubscribed
	case *appChanged:
		return kindAppChanged
	case *fenced:
		return kindFenced
	case *cancelled:
		return kindCancelled
	case *received:
		return kindReceived
	case *delivered:
		return kindDelivered
	case *alive:
		return kindAlive
	case *keptRequest:
		return kindKeptRequest
	case *keptActor:
		return kindKeptActor
	case *keptReminder:
		return kindKeptReminder
	case *keptGroup:
		return kindKeptGroup
	case *keptIDs:
		return kindKeptIDs
	case *keptOut:
		return kindKeptOut
	case *released:
		return kindReleased
	case *raised:
		return kindRaised
	case *keptApp:
		return kindKeptApp
	case *serviceSet:
		return kindService
	case *purged:
		return kindPurged
	case *wished:
		return kindWished
	case *keptPast:
		return kindKeptPast
	case *borrowed:
		return kindBorrowed
	case *waived:
		return kindWaived
	case *cleared:
		return kindCleared
	}
	return 0
}

type envelope struct {
	kind, epoch, owner, seq uint64
	viaFrom                 uint16
	viaN                    uint64
	out                     []OutMessage
	body                    []byte  // reading
	message                 message // writing
}

func (e *envelope) fields(c *codec) {
	c.u64(1, &e.kind)
	c.u64(2, &e.epoch)
	c.u64(3, &e.owner)
	c.u64(4, &e.seq)
	c.u16(5, &e.viaFrom)
	c.u64(6, &e.viaN)
	list(c, 7, &e.out)
	if c.writing {
		c.nested(8, e.message)
	} else {
		e.body = c.at(8).b
	}
}

// EncodeRecord is the record as a log holds it.
func EncodeRecord(r *Record) []byte {
	e := envelope{kind: kindOf(r.Body), epoch: r.Epoch, owner: r.Owner, seq: r.Seq, viaFrom: r.ViaFrom, viaN: r.ViaN, out: r.Out, message: r.Body}
	return encode(make([]byte, 0, sizeHint(r.Body)), &e)
}

// sizeHint saves growing the buffer of the common kinds.
func sizeHint(m message) int {
	switch m := m.(type) {
	case *accepted:
		return 256 + len(m.req.Body)
	case *completed:
		return 160 + len(m.outcome.Body)
	case *continued:
		return 256 + len(m.body)
	}
	return 160
}

// DecodeRecord reads what EncodeRecord wrote. An unknown kind is an error with
// CodeNewerFormat: this version must not own the partition. (The record then
// says where it stands, and nothing else; so it does when its body cannot be
// read. It is nil where not even that can be.)
func DecodeRecord(b []byte) (*Record, error) { return decodeRecord(&tables{}, b) }

func decodeRecord(t *tables, b []byte) (*Record, error) {
	var e envelope
	if err := decodeWith(t, b, &e); err != nil {
		return nil, Errorf(CodeDamaged, "a log record cannot be read (%d bytes)", len(b))
	}
	var body message
	switch e.kind {
	case kindAccepted: // applied by copying
		t.accepted = accepted{}
		body = &t.accepted
	case kindStarted:
		t.started = started{}
		body = &t.started
	default:
		body = newBody(e.kind)
	}
	if body == nil {
		return &Record{Epoch: e.epoch, Owner: e.owner, Seq: e.seq}, Errorf(CodeNewerFormat, "the log holds a record of kind %d that this version does not know", e.kind)
	}
	if err := decodeWith(t, e.body, body); err != nil {
		return &Record{Epoch: e.epoch, Owner: e.owner, Seq: e.seq}, Errorf(CodeDamaged, "a log record of kind %d cannot be read", e.kind)
	}
	return &Record{e.epoch, e.owner, e.seq, e.viaFrom, e.viaN, e.out, body}, nil
}

// accepted: a request is in the mailbox of its target (or waits for its time).
type accepted struct {
	req     Request
	flow    ID
	home    uint16
	step    uint32
	parents []ID
	// The parent's partition and its owner's epoch when the child was passed on.
	parentPart  uint16
	parentEpoch uint64
	parentStep  uint32 // see callerStep
	at          int64  // wall clock, ms

	// A reminder's firing moves the reminder in the same record.
	reminder   string // reminder id; the actor is the target
	nextDue    int64
	nextNS     int64 // the part of it below a millisecond
	nextExists bool
	count      int64
	due        int64

	// An event moves its group.
	group     string
	offset    int64
	groupLife uint64
	groupPart uint16 // partition of the group plus one; 0 for this one
}

// of says which life of a group the work belongs to.
func (a accepted) of(l groupLife, here uint16) accepted {
	a.group, a.groupLife, a.groupPart = l.key, l.life, 0
	if l.key != "" && l.part != here {
		a.groupPart = l.part + 1
	}
	return a
}

// life is what of was given.
func (a *accepted) life(here uint16) groupLife {
	switch {
	case a.group == "":
		return groupLife{}
	case a.groupPart == 0:
		return groupLife{a.group, a.groupLife, here}
	}
	return groupLife{a.group, a.groupLife, a.groupPart - 1}
}

func (a *accepted) fields(c *codec) {
	has := true
	c.msg(1, &has, &a.req)
	c.id(2, &a.flow)
	c.u16(3, &a.home)
	c.u32(4, &a.step)
	c.ids(5, &a.parents)
	c.u16(6, &a.parentPart)
	c.u64(7, &a.parentEpoch)
	c.i64(8, &a.at)
	c.str(9, &a.reminder)
	c.i64(10, &a.nextNS)
	c.i64(11, &a.nextDue)
	c.bool(12, &a.nextExists)
	c.i64(13, &a.count)
	c.i64(14, &a.due)
	c.str(15, &a.group)
	c.i64(16, &a.offset)
	c.u64(17, &a.groupLife)
	c.u16(18, &a.groupPart)
	c.u32(19, &a.parentStep)
}

// started: attempt n of a step is given to a host; for an actor it also says
// where the actor is placed.
type started struct {
	id      ID
	step    uint32
	attempt uint32
	host    string
	grace   int64 // ms after the last contact during which the host may still act
	actor   Actor // empty for a service; the placement outlives the request
	among   uint32
	tried   uint32
	// The firing of a reminder that is tried again takes in the due times that
	// have passed meanwhile; zero when there are none.
	reminder        string
	due, count      int64
	nextDue, nextNS int64
}

func (s *started) fields(c *codec) {
	c.id(1, &s.id)
	c.u32(2, &s.step)
	c.u32(3, &s.attempt)
	c.str(4, &s.host)
	c.i64(5, &s.grace)
	has := s.actor.Type != ""
	c.msg(6, &has, &s.actor)
	c.u32(7, &s.among)
	c.u32(8, &s.tried)
	c.str(9, &s.reminder)
	c.i64(10, &s.due)
	c.i64(11, &s.count)
	c.i64(12, &s.nextDue)
	c.i64(13, &s.nextNS)
}

// completed: the one outcome of a request. At its home it ends the entry; at
// the partition that executed a chain's last step Out carries it home.
type completed struct {
	id       ID
	outcome  Outcome
	none     bool // a tell: nobody will ask
	unplaced bool // the actor is no longer active (activation refused, or removed)
	removed  bool // the actor's state is gone
	storeTTL int64
	at       int64  // wall clock, ms
	actor    Actor  // with unplaced or removed: whose end outlives the request
	app      string // with an outcome: whose it is
	// Attempts of this step up to replaced came to nothing; nothing of theirs may come any more.
	step     uint32
	replaced uint32
	gen      uint64 // generation of the app plus one; 0 in logs of before this field
	// What the store is to say about a key, for the record of the request that had it may
	// have been cut off before the store has this one.
	key []byte // see KeyInStore
	sum uint64 // see bodyHash
	// Under which id the change was asked for that has withdrawn it: the cancel of one, or
	// a [clearing].
	change ID
}

func (m *completed) fields(c *codec) {
	c.id(1, &m.id)
	has := !m.none
	c.msg(2, &has, &m.outcome)
	m.none = !has
	c.bool(3, &m.unplaced)
	c.bool(4, &m.removed)
	c.i64(5, &m.storeTTL)
	c.i64(6, &m.at)
	has = m.unplaced || m.removed
	c.msg(7, &has, &m.actor)
	c.str(8, &m.app)
	c.u32(9, &m.step)
	c.u32(10, &m.replaced)
	c.u64(11, &m.gen)
	c.bytes(12, &m.key)
	c.u64(13, &m.sum)
	c.id(14, &m.change)
}

// continued: a step is done and the next one is due, in one record.
type continued struct {
	id       ID
	step     uint32 // of the next step
	target   Target
	method   string
	path     string
	header   Header
	body     []byte
	keepLock bool
	away     bool   // the next step runs in another partition; Out carries it
	replaced uint32 // attempts of the step before up to this one came to nothing
}

func (m *continued) fields(c *codec) {
	c.id(1, &m.id)
	c.u32(2, &m.step)
	has := true
	c.msg(3, &has, &m.target)
	c.str(4, &m.method)
	c.str(5, &m.path)
	c.header(6, &m.header)
	c.bytes(7, &m.body)
	c.bool(8, &m.keepLock)
	c.bool(9, &m.away)
	c.u32(10, &m.replaced)
}

// unplaced: the actor is active nowhere.
type unplaced struct{ actor Actor }

func (m *unplaced) fields(c *codec) { has := true; c.msg(1, &has, &m.actor) }

// hostLost: the boot never comes back.
type hostLost struct {
	boot   string
	reason string
	at     int64
	beside company // what it ran
	halts  []halt  // what had stopped there before, and no record says so
	more   bool    // and more than those
}

// halt: the running attempt of a request has stopped; what its owner knew of it.
type halt struct {
	id    ID
	among uint32
	alone bool
}

func (m *halt) fields(c *codec) {
	c.id(1, &m.id)
	c.u32(2, &m.among)
	c.bool(3, &m.alone)
}

func (m *hostLost) fields(c *codec) {
	c.str(1, &m.boot)
	c.str(2, &m.reason)
	c.i64(3, &m.at)
	c.int(4, &m.beside.flows)
	c.int(5, &m.beside.doubted)
	c.int(6, &m.beside.suspects)
	c.id(7, &m.beside.sole)
	list(c, 8, &m.halts)
	c.bool(9, &m.more)
}

// stateChanged: new values (nil: removed) of an actor's state; clear comes first.
type stateChanged struct {
	actor Actor
	clear bool
	set   []Field
	keys  []string // where the entries of set lie, for the owner that makes the record; not in it
	gen   uint64   // generation of the app plus one; 0 in logs of before this field
	maps  []string // submaps that go as a whole, before set; from level 2 on
	done  done
}

func (m *stateChanged) fields(c *codec) {
	has := true
	c.msg(1, &has, &m.actor)
	c.bool(2, &m.clear)
	list(c, 3, &m.set)
	c.u64(4, &m.gen)
	c.strs(5, &m.maps)
	m.done.in(c, 6)
}

type reminderSet struct {
	r    Reminder
	done done
}

func (m *reminderSet) fields(c *codec) {
	has := true
	c.msg(1, &has, &m.r)
	m.done.in(c, 2)
}

type reminderGone struct {
	actor Actor
	ids   []string
	done  done
}

func (m *reminderGone) fields(c *codec) {
	has := true
	c.msg(1, &has, &m.actor)
	c.strs(2, &m.ids)
	m.done.in(c, 3)
}

type subscribed struct {
	s    Subscription
	done done
}

func (m *subscribed) fields(c *codec) {
	has := true
	c.msg(1, &has, &m.s)
	m.done.in(c, 2)
}

type unsubscribed struct {
	actor Actor
	ids   []string
	done  done
}

func (m *unsubscribed) fields(c *codec) {
	has := true
	c.msg(1, &has, &m.actor)
	c.strs(2, &m.ids)
	m.done.in(c, 3)
}

// appChanged: a fact about an app. A higher generation forgets all that was.
type appChanged struct {
	app        string
	generation uint64
	listed     bool          // services is the whole list (else it stays); at level 1 only
	services   []serviceFact // url components
	from       uint64        // the generation before plus one; 0 in logs of before this field
	at         int64         // wall clock, ms
	done       done
}

// keptApp: the generation of an app, in full; gone: nothing needs it any more.
type keptApp struct {
	app        string
	generation uint64
	used, gone bool
	at         int64 // wall clock of the purge, ms
}

func (m *keptApp) fields(c *codec) {
	c.str(1, &m.app)
	c.u64(2, &m.generation)
	c.bool(3, &m.used)
	c.bool(4, &m.gone)
	c.i64(5, &m.at)
}

// serviceSet: one url component of an app is there, or gone.
type serviceSet struct {
	app     string
	service serviceFact
	gone    bool
	done    done
}

func (m *serviceSet) fields(c *codec) {
	has := true
	c.str(1, &m.app)
	c.msg(2, &has, &m.service)
	c.bool(3, &m.gone)
	m.done.in(c, 4)
}

type serviceFact struct {
	name, url string
	timeout   int64 // ms
	proxied   bool
}

func (s *serviceFact) fields(c *codec) {
	c.str(1, &s.name)
	c.str(2, &s.url)
	c.i64(3, &s.timeout)
	c.bool(4, &s.proxied)
}

func (m *appChanged) fields(c *codec) {
	c.str(1, &m.app)
	c.u64(2, &m.generation)
	list(c, 3, &m.services)
	c.bool(4, &m.listed)
	c.u64(5, &m.from)
	c.i64(6, &m.at)
	m.done.in(c, 7)
}

// fenced: no child of that partition below the epoch is accepted any more.
type fenced struct {
	partition uint16
	below     uint64
}

func (m *fenced) fields(c *codec) {
	c.u16(1, &m.partition)
	c.u64(2, &m.below)
}

// cancelled: a wish about a request that has started: no more attempts.
type cancelled struct{ id ID }

func (m *cancelled) fields(c *codec) { c.id(1, &m.id) }

// received: an outbox message that needed no other record.
type received struct{}

func (m *received) fields(*codec) {}

// delivered: a group has handed an event to a member in another partition.
type delivered struct {
	group string
	next  int64
	copy  ID // of an event that was sent away: its copies are known by it
}

func (m *delivered) fields(c *codec) {
	c.str(1, &m.group)
	c.i64(2, &m.next)
	c.id(3, &m.copy)
}

// released: these outcomes have reached their callers. It rides along with a
// round and is never the reason for one.
type released struct{ ids []ID }

func (m *released) fields(c *codec) { c.ids(1, &m.ids) }

// raised: from here on records of a higher level may stand in this log. It is
// written once every living gateway reads them.
type raised struct{ level int }

func (m *raised) fields(c *codec) { c.int(1, &m.level) }

// alive: the owner wanted to know whether it still is one.
type alive struct{}

func (m *alive) fields(*codec) {}

// claimed: a gateway wants to own the partition from here on.
type claimed struct {
	node       string
	mesh       string
	partitions int
	at         int64
	level      int // of a log that begins with this claim; 0 means 1
	address    string
	window     int64 // how long this owner remembers ids; 0 in logs of before this field
	youngest   int64
}

func (m *claimed) fields(c *codec) {
	c.str(1, &m.node)
	c.str(2, &m.mesh)
	c.int(3, &m.partitions)
	c.i64(4, &m.at)
	c.int(5, &m.level)
	c.str(6, &m.address)
	c.i64(7, &m.window)
	c.i64(8, &m.youngest)
}
