package runtime

import (
	"reflect"
	"strconv"
	"unicode/utf8"
)

// A host is one boot of a component. The activator knows how to reach hosts,
// the owner of a partition judges them. This file is the conversation of the
// two: [Owners] is what a driver tells the owners, [Link] is what the owners
// tell a host.

// HostInfo describes one boot of a component.
type HostInfo struct {
	Boot    string   // boot id, never reused
	App     string   // the app it belongs to
	Name    string   // for people, e.g. host name and pid
	Service string   // the service it offers, "" for none
	Actors  []string // the actor types it offers
	// Port is the runtime port of the sidecar, for information only.
	Port int
	// Idle is how long an actor stays active without work, in milliseconds; 0 for ever.
	Idle int64
	// Grace is how long after the last contact the host may still act, in
	// milliseconds: the lease for attached hosts; for url hosts the time limit of
	// a call, and how long after a contact one may start. The owner adds a second.
	Grace int64
	// URL is set for url hosts, for information only.
	URL string
	// Draining hosts finish what they have and get nothing new.
	Draining bool
	// Frozen hosts stand still until owners that they hold work of answer again;
	// they get nothing new meanwhile.
	Frozen bool
	// Attachment numbers the streams by which the boot has attached, one after the
	// other: the host counts. 0 is a host of an older version, or one that lives in
	// its gateway.
	Attachment uint64
}

// What a host may say about itself: every partition keeps it and looks through it.
const (
	maxHostTypes = 1000
	maxTypeBytes = 256
	maxBootBytes = 256
	maxNameBytes = 4096
)

// Check refuses a host that says more about itself than the owners take, and
// drops types that it names twice.
func (h *HostInfo) Check() *Error {
	if len(h.Actors) > maxHostTypes {
		return Errorf(CodeBadRequest, "the host offers %d actor types; the limit is %d", len(h.Actors), maxHostTypes)
	}
	seen := make(map[string]bool, len(h.Actors))
	types := h.Actors[:0:0]
	for _, t := range h.Actors {
		if len(t) > maxTypeBytes {
			return Errorf(CodeBadRequest, "the name of an actor type has %d bytes; the limit is %d", len(t), maxTypeBytes)
		}
		if !seen[t] {
			types = append(types, t)
		}
		seen[t] = true
	}
	h.Actors = types
	if len(h.Boot) > maxBootBytes { // it stands in records
		return Errorf(CodeBadRequest, "the boot of the host has %d bytes; the limit is %d", len(h.Boot), maxBootBytes)
	}
	if !utf8.ValidString(h.Boot) {
		return Errorf(CodeBadRequest, "the boot of the host is not UTF-8 text")
	}
	for _, s := range []string{h.App, h.Name, h.Service, h.URL} {
		if len(s) > maxNameBytes {
			return Errorf(CodeBadRequest, "the host has a name of %d bytes; the limit is %d", len(s), maxNameBytes)
		}
	}
	return nil
}

// Before tells that what is said of the host here is late: it has attached again
// since. What names what it is about (an attempt, what was asked, the end of the
// boot) holds whenever it comes; what tells where the host is, in which condition,
// or what it runs and holds, does not.
func (h *HostInfo) Before(last *HostInfo) bool {
	return h.Attachment != 0 && h.Attachment < last.Attachment
}

// sameOffer tells whether two infos differ in nothing but their flags.
func (h HostInfo) sameOffer(o HostInfo) bool {
	o.Draining, o.Frozen, o.Attachment = h.Draining, h.Frozen, h.Attachment
	return reflect.DeepEqual(h, o)
}

// An Attempt names one execution: request, step of its chain, number.
type Attempt struct {
	ID        ID
	Step      uint32
	Number    uint32
	Partition uint16
}

// before tells that b is a later attempt at the same request.
func (a Attempt) before(b Attempt) bool {
	return a.Step < b.Step || a.Step == b.Step && a.Number < b.Number
}

// JoinAnswer is what a host says about itself when it (re)joins.
type JoinAnswer struct {
	// Epochs is the question that it answers: the partitions and terms that the
	// host was asked for. An owner of a later term waits for its own answer.
	Epochs []PartitionEpoch
	// Running are the attempts that the host knows and that are not in Finished. An
	// answer that goes its own way, in front of the join or behind it, may be lost
	// alone: its attempt stands here as well, so that it is waited for, and not taken
	// for one that has never arrived.
	Running   []Attempt
	Finished  []Answer
	Instances []Actor
	// Later are partitions that it does not answer for, as it has heard of later terms.
	Later []TermSeen
}

// PartitionEpoch tells who may speak for a partition.
type PartitionEpoch struct {
	Partition uint16
	Epoch     uint64
}

// An Answer is the end of an attempt, as its host reports it.
type Answer struct {
	Attempt Attempt
	// Outcome is nil when the answer was lost (memory pressure on the host, or
	// the app's connection broke while the app is gone): the attempt has
	// stopped and may be retried.
	Outcome *Outcome
	// ActivationFailed: the app refused to activate the actor, the method did
	// not run, and Outcome is what the app answered.
	ActivationFailed bool
}

// Owners is implemented by the engine. Calls do not block on disk; they may be
// made from any goroutine. Order is kept among the calls for one boot when they
// are made from one goroutine.
type Owners interface {
	// Epochs are all partitions with the highest term known here, for the join question.
	Epochs() []PartitionEpoch
	// Gateways are the addresses at which a host may attach when this gateway goes.
	Gateways() []string
	// HostUp attaches a boot (again). From now on its messages go to link. It
	// returns an *Error with CodeHostLost when the boot has been counted lost.
	HostUp(h HostInfo, join JoinAnswer, link Link) error
	// HostChanged replaces what is known of an attached boot (e.g. Draining), unless
	// it has attached again since.
	HostChanged(h HostInfo)
	// LinkDown says that link is broken. It proves nothing about the host.
	LinkDown(boot string, link Link)
	// HostDown is proof that the boot has stopped: its process is seen to have exited.
	HostDown(boot, reason string)
	// Joined answers a [JoinAsk] that was sent over link: what the boot runs and holds in these
	// partitions. What it has finished there is reported by Answered, before or after.
	Joined(boot string, link Link, epochs []PartitionEpoch, join JoinAnswer)
	// Beat is a sign of life. Silent are the partitions for which no answer may
	// be given (no owner, or one that cannot prove that it still is one): the
	// lease is renewed for all others. Lost is true when the boot was counted
	// lost and must be killed.
	Beat(boot string) (silent []uint16, lost bool)
	// Answered reports the end of an attempt. The host keeps it until Taken.
	Answered(boot string, a Answer)
	// Deactivated confirms that the actor of m is no longer active on the boot: it
	// repeats what was asked.
	Deactivated(boot string, m Deactivate)
}

// A Link carries messages to one host in order, for as long as that attachment of
// it lasts. Send does not block; when the link is broken, or the host has attached
// again, messages vanish and the next join repairs it.
type Link interface {
	Send(HostMessage)
}

// HostMessage is one of *Invoke, *Deactivate, *Taken, *Verdict, *JoinAsk.
type HostMessage interface{ hostMessage() }

// Invoke asks the host to run one attempt. The host activates the actor first
// when it is not active there. A host runs an attempt at most once however
// often it is asked.
type Invoke struct {
	Attempt Attempt
	Epoch   uint64
	Target  Target
	Method  string
	Path    string
	Header  Header // for the app; includes Kar-Request-Id and Kar-Attempt, see MarkStep for the others
	Body    []byte
	// Session is to be given to the app as ?session= (actors).
	Session string
	// Limit is the execution limit in milliseconds, 0 for none (url hosts).
	Limit int64
}

// MarkStep adds what an app knows an outside effect of this step by: the step's
// number, and id and step as one key, which is the same for every attempt. It
// follows from the attempt, so hosts add it and no message carries it.
func (m *Invoke) MarkStep() {
	if m.Header == nil {
		m.Header = Header{}
	}
	b := make([]byte, 0, 40)
	b = append(m.Attempt.ID.appendTo(b), '-')
	id := len(b)
	key := string(strconv.AppendUint(b, uint64(m.Attempt.Step), 10))
	values := [...]string{key[id:], key}
	m.Header["Kar-Step"], m.Header["Kar-Idempotency-Key"] = values[0:1:1], values[1:2:2]
}

// Deactivate asks the host to deactivate an actor; the host answers with Deactivated,
// which repeats the last that it was asked: a confirmation that was long on its way
// says nothing about an actor that has been active again since.
type Deactivate struct {
	Actor     Actor
	Partition uint16
	Epoch     uint64
	// Asking numbers what the owner has asked in this term. It is 0 from a gateway
	// of an older version; a host of one leaves it and the epoch out of its answer.
	Asking uint64
}

// Taken says that the answers are durable: the host may forget them.
type Taken struct{ Attempts []Attempt }

// Verdict tells a host that it was counted lost and must stop its app.
type Verdict struct{ Reason string }

// JoinAsk raises the epoch that the host accepts for some partitions and asks
// what it runs and holds there, for a new owner or after a stream between
// gateways broke. The host reports what it has finished (Answered), whether it has
// before or not, and answers (Joined). To an ask below an epoch that it has seen it answers that epoch alone.
type JoinAsk struct{ Epochs []PartitionEpoch }

// Elsewhere names the gateways at which the host may attach when this one goes.
type Elsewhere struct{ Gateways []string }

func (*TermLost) hostMessage()   {}
func (*Elsewhere) hostMessage()  {}
func (*Invoke) hostMessage()     {}
func (*Deactivate) hostMessage() {}
func (*Taken) hostMessage()      {}
func (*Verdict) hostMessage()    {}
func (*JoinAsk) hostMessage()    {}
