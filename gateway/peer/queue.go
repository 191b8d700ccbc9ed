package peer

import (
	"slices"

	kar "github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

const (
	// pieceSize is how much of a frame goes in one piece, and how much a lane has
	// in one turn.
	pieceSize = 64 << 10
	// turnSize is how much of the lanes goes out at a time: what is urgent waits
	// for no more than that and a piece.
	turnSize = 128 << 10
	// appShare is the part of QueueLimit that one lane takes before its ops wait.
	appShare = 16
	// noApp is the lane of large answers to ops that name no app; no app has such a name.
	noApp = "\x00"
)

// A queue is what waits for one stream; the stream's lock guards it.
type queue struct {
	// out goes first. Frames with a lane are here as well while the lane is empty
	// and out is short, so that on a quiet stream all frames are in one order.
	out     []byte
	lanes   map[string]*lane // those that are not empty
	turns   []*lane          // the same, who is next first
	waiting int              // bytes in out and lanes
	// ids are the submits in lanes: whoever asks about one of them stays behind it.
	ids    map[kar.ID]*inLane
	pieces uint64 // the number of the last frame that went in pieces
}

// A lane has the frames of one app, or the messages of one partition to another,
// in their order.
type lane struct {
	key   string
	items []item
	bytes int
	later []*frame // ops for which there is no room yet
}

type item struct {
	seq  uint64 // of an op
	id   kar.ID // of a submit
	data []byte // encoded, what is left of it
	part uint64 // not 0 once it goes in pieces
}

type inLane struct {
	key string
	n   int
}

// A piece is a part of a frame that has no length in front of it.
type piece struct {
	ID   uint64
	Left int // bytes that come after Data
	Data []byte
}

// laneOf is the lane of an op, "" for none.
func (q *queue) laneOf(op *engine.Op) string {
	app, id := about(op)
	if x := q.ids[id]; x != nil {
		return x.key
	}
	return app
}

func about(op *engine.Op) (app string, id kar.ID) {
	switch {
	case op.Submit != nil:
		return op.Submit.Request.Target.App, op.Submit.Request.ID
	case op.Await != nil:
		return op.Await.App, op.Await.ID
	case op.Cancel != nil:
		return op.Cancel.App, op.Cancel.ID
	case op.State != nil:
		return op.State.Actor.App, op.State.ID
	case op.SetReminder != nil:
		return op.SetReminder.Reminder.Actor.App, op.SetReminder.ID
	case op.CancelReminders != nil:
		return op.CancelReminders.Actor.App, op.CancelReminders.Request
	case op.Subscribe != nil:
		return op.Subscribe.Actor.App, op.ID
	case op.Unsubscribe != nil:
		return op.Unsubscribe.Actor.App, op.Unsubscribe.Request
	case op.Purge != nil:
		return op.Purge.App, id
	case op.Drain != nil:
		return op.Drain.App, id
	case op.CancelAll != nil:
		return op.CancelAll.App, id
	case op.SetService != nil:
		return op.SetService.App, id
	case op.Query != nil && op.Query.App != "":
		return op.Query.App, op.Query.Request
	case op.Query != nil:
		return op.Query.Actor.App, op.Query.Request
	case op.Known != nil:
		return op.Known.App, id
	case op.Publish != nil:
		return op.Publish.App, op.Publish.ID
	}
	return "", id
}

// noteLane is the lane of a note, "" for what waits for nobody.
func noteLane(n *engine.Note) string {
	switch {
	case n.Host != nil && n.Host.Up != nil:
		return n.Host.Up.Info.App
	case n.Host != nil && n.Host.Changed != nil:
		return n.Host.Changed.App
	case n.Host != nil:
		return n.Host.App
	case n.ToHost != nil:
		return n.ToHost.App
	case n.Input != nil && n.Input.Release != nil:
		return n.Input.Release.App
	case n.Input != nil && n.Input.Deliver != nil:
		from, to := n.Input.Deliver.From, n.Input.Partition
		return string([]byte{0, byte(from >> 8), byte(from), byte(to >> 8), byte(to)}) // no app has such a name
	}
	return ""
}

// add puts f where it belongs, encoded by x, or for an op without room in its
// lane, as it is. Limit is of the frame, room of the lane.
func (q *queue) add(x frames, f *frame, key string, limit, room int) error {
	l := q.lanes[key] // there is none for ""
	if l != nil && f.Op != nil && (l.bytes >= room || len(l.later) > 0) {
		l.later = append(l.later, f)
		q.note(f, key, 1)
		return nil
	}
	start := len(q.out)
	var err error
	if q.out, err = x.put(q.out, f, limit); err != nil {
		return err
	}
	n := len(q.out) - start
	q.waiting += n
	if key == "" || l == nil && len(q.out) <= pieceSize {
		return nil
	}
	it := item{data: append(make([]byte, 0, n), q.out[start:]...)}
	q.out = q.out[:start]
	if l == nil {
		l = &lane{key: key}
		if q.lanes == nil {
			q.lanes, q.ids = map[string]*lane{}, map[kar.ID]*inLane{}
		}
		q.lanes[key] = l
		q.turns = append(q.turns, l)
	}
	if f.Op != nil {
		it.seq = f.Seq
		it.id = q.note(f, key, 1)
	}
	l.items = append(l.items, it)
	l.bytes += n
	return nil
}

// live adds a sign of life.
func (q *queue) live() {
	q.out = append(q.out, 0, 0, 0, 0)
	q.waiting += headSize
}

func (q *queue) empty() bool { return len(q.out) == 0 && len(q.turns) == 0 }

// behind is how much waits in a lane.
func (q *queue) behind(key string) int {
	if l := q.lanes[key]; l != nil {
		return l.bytes
	}
	return 0
}

// note counts a submit that came into a lane or left it.
func (q *queue) note(f *frame, key string, n int) (id kar.ID) {
	if f.Op == nil || f.Op.Submit == nil {
		return id
	}
	id = f.Op.Submit.Request.ID
	q.count(id, key, n)
	return id
}

func (q *queue) count(id kar.ID, key string, n int) {
	if id == (kar.ID{}) {
		return
	}
	x := q.ids[id]
	if x == nil {
		x = &inLane{key: key}
		q.ids[id] = x
	}
	if x.n += n; x.n == 0 {
		delete(q.ids, id)
	}
}

// withdraw removes an op of which nothing has been sent, and tells whether it was there.
func (q *queue) withdraw(key string, seq uint64) bool {
	l := q.lanes[key]
	if l == nil {
		return false
	}
	for i, f := range l.later {
		if f.Seq == seq && f.Op != nil {
			l.later = slices.Delete(l.later, i, i+1)
			q.note(f, key, -1)
			return true
		}
	}
	for i := range l.items {
		it := &l.items[i]
		if it.seq != seq || it.part != 0 {
			continue
		}
		q.count(it.id, key, -1)
		q.waiting -= len(it.data)
		l.bytes -= len(it.data)
		l.items = slices.Delete(l.items, i, i+1)
		return true
	}
	return false
}

// refill takes ops of a lane for which there is room now. Refused are those that
// are too large.
func (q *queue) refill(x frames, l *lane, limit, room int, refused func(*frame, error)) {
	for len(l.later) > 0 && l.bytes < room {
		f := l.later[0]
		l.later[0] = nil
		l.later = l.later[1:]
		data, err := x.put(nil, f, limit)
		if err != nil {
			q.note(f, l.key, -1)
			refused(f, err)
			continue
		}
		it := item{seq: f.Seq, data: data}
		if f.Op.Submit != nil {
			it.id = f.Op.Submit.Request.ID // it is counted already
		}
		l.items = append(l.items, it)
		l.bytes += len(data)
		q.waiting += len(data)
	}
}

// turn takes what goes out next: all of out, and some lanes' turns. After each,
// refill may add to the lane.
func (q *queue) turn(x frames, spare []byte, pieces bool, refill func(*lane)) []byte {
	b := q.out
	q.waiting -= len(b)
	q.out = spare[:0]
	for start := len(b); len(q.turns) > 0 && len(b)-start < turnSize; {
		l := q.turns[0]
		q.turns[0] = nil
		q.turns = q.turns[1:]
		b = q.visit(x, b, l, pieces)
		refill(l)
		if len(l.items) > 0 {
			q.turns = append(q.turns, l)
		} else {
			delete(q.lanes, l.key)
		}
	}
	return b
}

// visit takes a lane's turn: frames up to pieceSize, at least one or a piece of
// one. Without pieces a large frame goes as a whole.
func (q *queue) visit(x frames, b []byte, l *lane, pieces bool) []byte {
	for start := len(b); len(l.items) > 0; {
		it := &l.items[0]
		n := len(it.data)
		large := it.part != 0 || n > pieceSize
		if len(b) > start && (large || len(b)-start+n > pieceSize) {
			break
		}
		if large && pieces {
			if it.part == 0 {
				q.pieces++
				it.part = q.pieces
				it.data = it.data[headSize:]
				q.took(l, headSize)
			}
			n = min(len(it.data), pieceSize)
			b, _ = x.put(b, &frame{Piece: &piece{it.part, len(it.data) - n, it.data[:n]}}, maxFrame) // far below it
		} else {
			b = append(b, it.data...)
		}
		it.data = it.data[n:]
		q.took(l, n)
		if len(it.data) > 0 {
			break
		}
		q.count(it.id, l.key, -1)
		*it = item{}
		l.items = l.items[1:]
	}
	return b
}

func (q *queue) took(l *lane, n int) {
	l.bytes -= n
	q.waiting -= n
}
