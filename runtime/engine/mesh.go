// Package engine drives the rules of package runtime: one core for each owned
// partition, group commit, timers, recovery, and the store as a view of the log.
package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Config is what a mesh node needs. Zero values are useful where noted.
type Config struct {
	// Partitions of the mesh; 0 means 1.
	Partitions int
	// Node is the boot id of this gateway; records carry it.
	Node string
	// Mesh is the name that log and store must carry.
	Mesh  string
	Logs  func(partition uint16) (runtime.Log, error)
	Store runtime.Store
	// Topics answers where a new subscription starts.
	Topics runtime.Topics
	Logger *slog.Logger

	Lease           time.Duration // of hosts; 0 means 6 s
	IDWindow        time.Duration // 0 means 10 min
	ResultRetention time.Duration // 0 means 24 h
	BodyLimit       int           // bytes of a request or result; 0 means 4 MiB
	MailboxLimit    int           // waiting requests per actor or service from outside; 0 means 10,000
	// MaxAttempts of a request before it ends as an error; 0 means no limit.
	MaxAttempts int
	// TrimAt is the log size in bytes above which trimming is considered; 0 means 32 MiB.
	TrimAt int64
}

// A Mesh is this node's part of the mesh: the partitions it owns.
type Mesh struct{}

// Open claims and recovers the partitions. It returns when all are ready.
func Open(ctx context.Context, cfg Config) (*Mesh, error) { panic("pending") }

// Close stops: nothing new is accepted, rounds in flight become durable, all
// goroutines have ended when it returns. Twice is fine.
func (m *Mesh) Close() error { panic("pending") }

var _ runtime.Owners = (*Mesh)(nil)

func (m *Mesh) Epochs() []runtime.PartitionEpoch                                { panic("pending") }
func (m *Mesh) HostUp(runtime.HostInfo, runtime.JoinAnswer, runtime.Link) error { panic("pending") }
func (m *Mesh) HostChanged(runtime.HostInfo)                                    { panic("pending") }
func (m *Mesh) LinkDown(boot string, link runtime.Link)                         { panic("pending") }
func (m *Mesh) HostDown(boot, reason string)                                    { panic("pending") }
func (m *Mesh) Beat(boot string) (ok, lost bool)                                { panic("pending") }
func (m *Mesh) Answered(boot string, a runtime.Answer)                          { panic("pending") }
func (m *Mesh) Deactivated(boot string, a runtime.Actor, partition uint16)      { panic("pending") }
