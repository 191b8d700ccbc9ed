package runtime

// An Actor is named by app, type and id; any bytes are fine in each.
type Actor struct {
	App, Type, ID string
}

// A Target is an actor (Type set) or a service (Service set) of an app.
type Target struct {
	App     string
	Type    string
	ID      string
	Service string
}

// IsActor tells an actor from a service.
func (t Target) IsActor() bool { return t.Type != "" }

// Actor is the target as an actor; only meaningful when IsActor.
func (t Target) Actor() Actor { return Actor{t.App, t.Type, t.ID} }

// Component is the name under which hosts offer the target: the actor type or the service.
func (t Target) Component() string {
	if t.Type != "" {
		return t.Type
	}
	return t.Service
}

// Header is a set of HTTP header fields, keyed by canonical name.
type Header map[string][]string

// Get returns the first value of a field (canonical name), or "".
func (h Header) Get(name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// A Kind says what a request is for and who waits.
type Kind uint8

const (
	Call    Kind = iota // the caller waits for the outcome
	Promise             // the caller gets the id at once; the outcome is kept for the result retention
	Tell                // nobody waits
	Remove              // a tell that deactivates an actor and deletes its state when its turn comes
)

// A Request is work for an actor or a service.
type Request struct {
	ID     ID
	Kind   Kind
	Target Target
	Method string // HTTP method towards a service; POST for actors
	Path   string // as sent to the app, with leading slash, already escaped, with any query string
	Header Header // for services: the caller's header; for actors: nil
	Body   []byte

	// Session is the caller's session string as it came in ("" when there was
	// none); the core reads it, nobody else.
	Session string
	// Boot is the host boot that sent the request, "" for a client outside.
	Boot string

	// Key is the Idempotency-Key, "" when there is none; keyed outcomes are
	// kept for the result retention.
	Key string

	// Limits; zero means none. NoHost and Busy are durations in milliseconds,
	// checked only before the first start; the gateway sets them for calls and
	// promises alone. Deadline and NotBefore are Unix milliseconds.
	NoHost    int64
	Busy      int64
	Deadline  int64
	NotBefore int64
	// CancelWithCaller withdraws the call before its start when the boot that
	// made it is lost (KAR 1.x -cancel).
	CancelWithCaller bool

	// sum stands for method, path and body of the first step of a keyed
	// request, whose fields later steps replace; 0 while they are the first.
	sum uint64
	// first is the target of the first step of a keyed request, under which its
	// key is known; zero while Target still is that.
	first Target
}

// An Outcome is how a request ended. It is recorded once.
type Outcome struct {
	Status int
	Header Header // as the app answered, hop-by-hop fields removed
	Body   []byte
	// Code is set when KAR, not the app, made the outcome (Kar-Error).
	Code Code
}

// A Reminder is a tell to an actor at a time, once or on a grid of periods.
type Reminder struct {
	Actor    Actor
	ID       string
	Path     string // with leading slash
	Due      int64  // next due time, Unix milliseconds
	Period   int64  // nanoseconds, 0 for once
	Data     []byte // JSON text that becomes the body, nil for none
	CatchUp  bool   // catchUp: all — one firing for each missed due time
	TargetNS int64  // sub-millisecond part of the due time in nanoseconds, kept for GET
}

// A Subscription delivers each event of a topic to an actor as one tell.
type Subscription struct {
	Actor       Actor
	ID          string
	Path        string
	Topic       string
	ContentType string
	Group       string // "" means a group of its own
	Oldest      bool   // start at the oldest record instead of after the newest
	Next        int64  // offset of the next event to be accepted; set by the core
}
