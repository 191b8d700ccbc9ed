// Package engine drives the rules of package runtime: one core for each owned
// partition, group commit, timers, recovery, and the store as a view of the log.
package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Config is what a mesh node needs. Zero values are useful where noted.
type Config struct {
	// Partitions of the mesh; 0 means 1.
	Partitions int
	// Node is the boot id of this gateway; records carry it. "" makes one.
	Node string
	// Mesh is the name that log and store must carry.
	Mesh  string
	Logs  func(partition uint16) (runtime.Log, error)
	Store runtime.Store
	// Topics answers where a new subscription starts.
	Topics runtime.Topics
	Logger *slog.Logger // nil discards

	Lease           time.Duration // of hosts; 0 means 6 s
	IDWindow        time.Duration // 0 means 10 min
	ResultRetention time.Duration // 0 means 24 h
	MailboxLimit    int           // waiting requests per actor or service from outside; 0 means 10,000
	// WorkBytes bounds what open requests from outside take in one partition,
	// bodies in the log included; an app may have half of it. 0 means 1 GiB.
	WorkBytes int64
	// Memory bounds what open requests take in this process, in bytes; what is
	// beyond half of it stays in the log only. 0 means no bound.
	Memory int64
	// MaxAttempts of a request before it ends as an error; 0 means no limit.
	MaxAttempts int
	// HostLimit and HostBytes bound what one host is given at a time from one
	// partition: attempts (0 means 10,000) and bytes of bodies (0 means 32 MiB).
	HostLimit, HostBytes int
	// TrimAt is the log size in bytes above which trimming is considered; 0 means 16 MiB.
	TrimAt int64
	// LogRetention is after which time the log forgets records that nobody has
	// trimmed; 0 is never, as it should be.
	LogRetention time.Duration

	// Level is the highest level of records that this node reads and writes; 0
	// means runtime.Level. Tests play older and newer versions with it.
	Level int

	// Shared makes this node one of several; nil for a mesh of one that owns
	// everything from Open to Close.
	Shared *Shared
}

// Shared is what a node of several needs.
type Shared struct {
	// Connect makes the streams to the other gateways.
	Connect func(PeerHandler) (Peers, error)
	Members runtime.Members
	// Address is where the other gateways reach this one, http://host:port.
	Address string
	Version string
	// Log tells the log from all others but copies, "" when it does not say.
	Log string
	// Lease of gateways in the list of members; 0 means 2 s.
	Lease time.Duration
}

func (c *Config) fill() {
	c.Partitions = max(c.Partitions, 1)
	if c.Node == "" {
		c.Node = "gateway-" + NewBoot()
	}
	if c.Mesh == "" {
		c.Mesh = "local"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	orDuration(&c.Lease, 6*time.Second)
	orDuration(&c.IDWindow, 10*time.Minute)
	orDuration(&c.ResultRetention, 24*time.Hour)
	if c.MailboxLimit == 0 {
		c.MailboxLimit = 10_000
	}
	if c.HostLimit == 0 {
		c.HostLimit = 10_000
	}
	if c.HostBytes == 0 {
		c.HostBytes = c.part(32<<20, 4)
	}
	if c.WorkBytes == 0 {
		c.WorkBytes = 1 << 30
	}
	if c.TrimAt == 0 {
		c.TrimAt = 16 << 20
	}
	if c.Level == 0 {
		c.Level = runtime.Level
	}
	if c.Shared != nil {
		shared := *c.Shared
		orDuration(&shared.Lease, 2*time.Second)
		c.Shared = &shared
	}
}

// part is a default, or less of it where there is little memory.
func (c *Config) part(of int64, share int64) int {
	if c.Memory > 0 {
		of = min(of, c.Memory/share)
	}
	return int(of)
}

func (c *Config) outcomeBytes() int { return c.part(64<<20, 8) }

func orDuration(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

// NewBoot makes a boot id: 128 random bits in hex. Knowing it is the right to
// speak for the boot.
func NewBoot() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read does not fail (Go 1.24)
	return hex.EncodeToString(b[:])
}

// A Mesh is this node's part of the mesh: the partitions it owns, and the way
// to the owners of the others.
type Mesh struct {
	cfg     Config
	start   time.Time
	parts   []*partition
	dir     *directory
	peers   Peers // nil in local mode
	owned   *ownerLoop
	tally   tally
	lands   lands
	silence silence
	// topicsFull is nil since an event was taken.
	topicsFull atomic.Pointer[noRoom]
	memory
	guests
	beats beats

	turns    turns
	groups   *signal
	services *signal

	paused  atomic.Bool
	refused context.Context // ends when this gateway must not take part
	refuse  context.CancelCauseFunc
	life    context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
	watches tasks
	closing sync.Once
}

// Open starts the node. In local mode it returns when all partitions are
// claimed and recovered; in a shared mesh at once (see Settled).
func Open(ctx context.Context, cfg Config) (*Mesh, error) {
	cfg.fill()
	run, cancel := context.WithCancel(context.Background())
	m := &Mesh{
		cfg: cfg, start: time.Now(), dir: newDirectory(cfg.Partitions), guests: newGuests(),
		groups: newSignal(), services: newSignal(), silence: silence{found: make(chan struct{})}, life: run, cancel: cancel,
	}
	m.refused, m.refuse = context.WithCancelCause(context.Background())
	m.memory.limit, m.memory.room = cfg.Memory, int64(cfg.part(256<<20, 4))
	m.turns = turns{make(chan struct{}, 1), newSignal()}
	m.lands.probing = make(chan struct{}, 1)
	m.beats.m, m.beats.wake = m, make(chan struct{}, 1)
	for p := range cfg.Partitions {
		log, err := cfg.Logs(uint16(p))
		if err != nil {
			m.abandon()
			return nil, err
		}
		x := newPartition(m, uint16(p), log)
		m.parts = append(m.parts, x)
	}
	if cfg.Shared == nil {
		for _, p := range m.parts {
			if err := p.recover(ctx); err != nil {
				m.abandon()
				return nil, err
			}
		}
	} else {
		m.owned = newOwnerLoop(m)
		peers, err := cfg.Shared.Connect(m)
		if err != nil {
			m.abandon()
			return nil, err
		}
		m.peers = peers
	}
	for _, p := range m.parts {
		m.running.Go(func() { p.run(run) })
	}
	if m.owned != nil {
		m.running.Go(func() { m.owned.run(run) })
	}
	m.running.Go(func() { m.beats.run(run) })
	m.running.Go(func() { m.watchFronts(run) })
	return m, nil
}

func (m *Mesh) abandon() {
	m.cancel()
	for _, p := range m.parts {
		p.stopApplier()
		_ = p.log.Close()
	}
}

// Close stops: nothing new is accepted, rounds in flight become durable, all
// goroutines have ended when it returns. Twice is fine. In a shared mesh Leave
// should come first.
func (m *Mesh) Close() error {
	var err error
	m.closing.Do(func() {
		m.Pause()
		m.cancel()
		m.running.Wait()
		for _, p := range m.parts {
			p.stopWaiters()
		}
		if m.peers != nil {
			err = m.peers.Close()
		}
		for _, p := range m.parts {
			p.stopApplier()
			if e := p.log.Close(); e != nil && err == nil {
				err = e
			}
		}
		m.watches.Wait()
	})
	return err
}

// now is the time for the cores.
func (m *Mesh) now() runtime.Now {
	t := time.Now()
	return runtime.Now{Wall: t.UnixMilli(), Mono: t.Sub(m.start).Milliseconds() + 1}
}

func (m *Mesh) part(p uint16) *partition {
	if int(p) >= len(m.parts) {
		return nil
	}
	return m.parts[p]
}

// A signal is a channel that is closed when something has changed.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func newSignal() *signal { return &signal{ch: make(chan struct{})} }

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.ch)
	s.ch = make(chan struct{})
}
