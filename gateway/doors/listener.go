package doors

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of a [Listener], in connections at once.
type Limits struct {
	Connections int
	PerAddress  int // of those from one IP address
	Strangers   int // of those on which nobody has been let in yet
}

// reserve is how many file descriptors are for everything that is no connection
// to a door: logs, the store, Kafka, other gateways.
const reserve = 256

// DefaultLimits leave this process enough file descriptors to go on working when
// a door is crowded, and others enough room beside one address.
func DefaultLimits() Limits {
	most := 4096
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		most = int(min(files.Cur, 1<<30))
	}
	most = max(most-reserve, most/2)
	return Limits{Connections: most, PerAddress: most / 2, Strangers: min(1024, most/2)}
}

// A Listener bounds the connections of a door. Where one more does not fit, the
// oldest stranger makes room, so that who asks for nothing locks nobody out;
// without a stranger the new one is refused.
type Listener struct {
	net.Listener
	limits Limits
	log    *slog.Logger

	mu        sync.Mutex
	open      int
	from      map[netip.Addr]int
	strangers list.List // of *connection, the oldest first
	told      time.Time // when it was last logged that the door is crowded
}

// Limit bounds the connections that l accepts.
func Limit(l net.Listener, limits Limits, log *slog.Logger) *Listener {
	return &Listener{Listener: l, limits: limits, log: log, from: map[netip.Addr]int{}}
}

// Accept waits for a connection that fits.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if in := l.take(c); in != nil {
			return in, nil
		}
		_ = c.Close() // nobody is told
	}
}

func (l *Listener) take(c net.Conn) *connection {
	in := &connection{Conn: c, l: l, address: addressOf(c)}
	var out *connection
	defer func() {
		if out != nil {
			_ = out.Conn.Close() // its end notices
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	crowded := l.open >= l.limits.Connections || l.strangers.Len() >= l.limits.Strangers
	same := l.from[in.address] >= l.limits.PerAddress
	if crowded || same {
		out = l.oldest(in.address, same)
		if now := time.Now(); now.Sub(l.told) > 10*time.Second {
			l.told = now
			l.log.Warn("the door is crowded: who has asked for nothing yet makes room", "connections", l.open,
				"strangers", l.strangers.Len(), "from", in.address, "from_there", l.from[in.address])
		}
		if out == nil {
			return nil
		}
		l.drop(out)
	}
	l.open++
	l.from[in.address]++
	in.place = l.strangers.PushBack(in)
	in.counted = true
	return in
}

// oldest is the stranger who waits longest, or nil.
func (l *Listener) oldest(address netip.Addr, same bool) *connection {
	for e := l.strangers.Front(); e != nil; e = e.Next() {
		if c, _ := e.Value.(*connection); !same || c.address == address {
			return c
		}
	}
	return nil
}

// drop forgets a connection; twice is fine.
func (l *Listener) drop(c *connection) {
	if !c.counted {
		return
	}
	c.counted = false
	l.open--
	if l.from[c.address]--; l.from[c.address] == 0 {
		delete(l.from, c.address)
	}
	l.letIn(c)
}

func (l *Listener) letIn(c *connection) {
	if c.place != nil {
		l.strangers.Remove(c.place)
		c.place = nil
		c.isKnown.Store(true)
	}
}

func addressOf(c net.Conn) netip.Addr {
	a, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // else the zero address, one for all
	return a.Addr().Unmap()
}

// A connection that a [Listener] has accepted.
type connection struct {
	net.Conn
	l       *Listener
	address netip.Addr
	isKnown atomic.Bool // what place says, without the lock

	// Under l.mu:
	counted bool
	place   *list.Element // among the strangers; nil once somebody was let in
	visits  int           // requests in progress of nobody in particular
}

func (c *connection) Close() error {
	c.l.mu.Lock()
	c.l.drop(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// known ends that the connection is a stranger's.
func (c *connection) known() {
	if c == nil || c.isKnown.Load() {
		return
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.l.letIn(c)
}

// visitLimit is how many requests without a token one connection may have at once.
const visitLimit = 8

// visit begins a request of nobody in particular; false when there are too many.
func (c *connection) visit(more int) bool {
	if c == nil {
		return true
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if more > 0 && c.visits >= visitLimit {
		return false
	}
	c.visits += more
	return true
}

type connectionKey struct{}

// ConnContext is for [net/http.Server.ConnContext]: requests know their connection.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if in := unwrap(c); in != nil {
		return context.WithValue(ctx, connectionKey{}, in)
	}
	return ctx
}

// LetIn says that a connection is no stranger's any more, where the guard does
// not see it: one that has become a stream.
func LetIn(c net.Conn) { unwrap(c).known() }

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

func unwrap(c net.Conn) *connection {
	for {
		switch t := c.(type) {
		case *connection:
			return t
		case interface{ NetConn() net.Conn }: // TLS
			c = t.NetConn()
		default:
			return nil
		}
	}
}
