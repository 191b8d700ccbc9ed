package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// defaultPartitions is what a shared mesh has unless told otherwise.
const defaultPartitions = 64

// A sharedMesh is a real Kafka and a real Redis, on which any number of meshes
// are started one after the other, each under a name of its own.
type sharedMesh struct {
	b     *bench
	dir   string
	kafka *parts.Kafka
	redis *parts.Redis
}

func (b *bench) startShared() (*sharedMesh, error) {
	if _, err := b.binary(); err != nil {
		return nil, err
	}
	dir, err := b.folder("shared")
	if err != nil {
		return nil, err
	}
	s := &sharedMesh{b: b, dir: dir}
	if s.kafka, err = parts.StartKafka(b.ctx, filepath.Join(dir, "kafka"), parts.KafkaOptions{Heap: "512m"}); err != nil {
		return nil, &missingError{"Kafka", err}
	}
	if s.redis, err = parts.StartRedis(b.ctx, filepath.Join(dir, "redis"), parts.RedisOptions{AppendOnly: true}); err != nil {
		return nil, errors.Join(&missingError{"Redis", err}, s.kafka.Close())
	}
	return s, nil
}

func (s *sharedMesh) close() error { return errors.Join(s.redis.Close(), s.kafka.Close()) }

// A missingError says that a server cannot be had on this machine.
type missingError struct {
	what  string
	cause error
}

func (e *missingError) Error() string { return e.what + " cannot be had: " + e.cause.Error() }
func (e *missingError) Unwrap() error { return e.cause }

// An endedError says that a process ended, or did not come up, and what it wrote.
type endedError struct {
	p     *proc
	cause error
}

func (e *endedError) Error() string {
	return fmt.Sprintf("%s did not come up (%v):\n%s", e.p.name, e.cause, e.p.tail())
}

// A nodes is one mesh: its gateways and components, all as processes.
type nodes struct {
	s          *sharedMesh
	name, dir  string
	partitions int
	gateways   []*gatewayNode
	comps      []*component
	starts     int // for names of files
}

type gatewayNode struct {
	addr string
	node string // its boot id
	*proc
}

// A component is a bench app under kar run.
type component struct {
	*proc
	app string // address of the app itself
	at  int    // gateway that it was told
}

// mesh starts gateways on an empty mesh and waits until they have spread the partitions.
func (s *sharedMesh) mesh(name string, gateways, partitions int) (*nodes, error) {
	m := &nodes{s: s, name: name, dir: filepath.Join(s.dir, name), partitions: partitions}
	if err := makeFolder(m.dir); err != nil {
		return nil, err
	}
	for range gateways {
		m.gateways = append(m.gateways, &gatewayNode{addr: "127.0.0.1:" + freePort()})
	}
	for i := range m.gateways {
		if err := m.startGateway(i); err != nil {
			m.close()
			return nil, err
		}
	}
	if _, err := m.settled(30 * time.Second); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// startGateway starts a gateway, or starts it again at its address.
func (m *nodes) startGateway(i int) error {
	m.starts++
	env := []string{
		"KAFKA_BROKERS=" + strings.Join(m.s.kafka.Brokers(), ","), "REDIS_HOST=" + m.s.redis.Host, "REDIS_PORT=" + strconv.Itoa(m.s.redis.Port),
		"KAR_MESH=" + m.name, "KAR_PARTITIONS=" + strconv.Itoa(m.partitions),
	}
	g := m.gateways[i]
	p, err := start(m.dir, fmt.Sprintf("gateway%d-%d", i+1, m.starts), env, m.s.b.kar, "gateway", "--listen", g.addr)
	g.proc, g.node = p, ""
	return err
}

// A nodeStatus is the part of GET /kar/status that is needed here.
type nodeStatus struct {
	Node  string
	Hosts int
	Stats struct {
		Owned, Gateways, Down, Pending, Running, Hosts, ActiveActors int
		Completed, Accepted, Appends, AppendedRecords, Forwarded     uint64
		AppendedBytes                                                uint64
		LogBytes                                                     int64
		AppendSeconds, RecoverySeconds                               float64
	}
}

func (g *gatewayNode) status() (nodeStatus, error) {
	var s nodeStatus
	c := newConn("tcp", g.addr)
	defer c.close()
	code, body, err := c.do("GET", "/kar/status", "", nil)
	if err == nil && code != 200 {
		err = fmt.Errorf("/kar/status: %d %.200s", code, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	return s, err
}

// settled waits until each running gateway owns what is its share.
func (m *nodes) settled(limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(m.s.b.ctx, limit)
	defer cancel()
	var ended *proc
	var last string
	took, err := until(ctx, "the gateways to spread the partitions", func() bool {
		var members []runtime.Member
		owned := map[string]int{}
		for _, g := range m.alive() {
			if g.ended() {
				ended = g.proc
				return true
			}
			s, err := g.status()
			if err != nil {
				return false
			}
			g.node = s.Node
			owned[s.Node] = s.Stats.Owned
			members = append(members, runtime.Member{Node: s.Node})
		}
		for p := range m.partitions {
			owned[runtime.Preferred(uint16(p), members)]--
		}
		last = fmt.Sprint(owned)
		for _, n := range owned {
			if n != 0 {
				return false
			}
		}
		return true
	})
	if ended != nil {
		return 0, &endedError{ended, nil}
	}
	if err != nil {
		return 0, fmt.Errorf("%w (more or less than their share: %s)", err, last)
	}
	return took, nil
}

func (m *nodes) alive() []*gatewayNode {
	var all []*gatewayNode
	for _, g := range m.gateways {
		if g.proc != nil {
			all = append(all, g)
		}
	}
	return all
}

// owner is the gateway that owns an actor, once settled.
func (m *nodes) owner(actor string) int {
	var members []runtime.Member
	for _, g := range m.alive() {
		members = append(members, runtime.Member{Node: g.node})
	}
	node := runtime.Preferred(runtime.ActorPartition(runtime.Actor{App: "bench", Type: "Bench", ID: actor}, m.partitions), members)
	for i, g := range m.gateways {
		if g.node == node {
			return i
		}
	}
	return -1
}

// actorsOf names n actors that the gateway owns.
func (m *nodes) actorsOf(gateway, n int, prefix string) []string {
	var all []string
	for i := 0; len(all) < n; i++ {
		if a := prefix + strconv.Itoa(i); m.owner(a) == gateway {
			all = append(all, a)
		}
	}
	return all
}

func (m *nodes) addrs() []string {
	var all []string
	for _, g := range m.gateways {
		all = append(all, g.addr)
	}
	return all
}

// startComponent runs the bench app under kar run, attached to one gateway, and
// waits until all gateways know it.
func (m *nodes) startComponent(gateway int) (*component, error) {
	m.starts++
	port := freePort()
	env := []string{"KAR_GATEWAY=http://" + m.gateways[gateway].addr}
	p, err := start(m.dir, fmt.Sprint("component", m.starts), env, m.s.b.kar, "run", "-app", "bench", "-actors", "Bench", "-app_port", port, "--", m.s.b.self, "app")
	if err != nil {
		return nil, err
	}
	c := &component{proc: p, app: "127.0.0.1:" + port, at: gateway}
	m.comps = append(m.comps, c)
	if err := m.together(30 * time.Second); err != nil {
		return nil, err
	}
	return c, nil
}

// together waits until each gateway knows all running components and no others.
func (m *nodes) together(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(m.s.b.ctx, limit)
	defer cancel()
	var ended *proc
	_, err := until(ctx, "the gateways to know all components", func() bool {
		for _, c := range m.comps {
			if c.ended() {
				ended = c.proc
				return true
			}
			if !listening(c.app) {
				return false
			}
		}
		for _, g := range m.alive() {
			s, err := g.status()
			if err != nil || s.Hosts != len(m.comps) {
				return false
			}
		}
		return true
	})
	if ended != nil {
		return &endedError{ended, nil}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m.tails())
	}
	return nil
}

// forget leaves out a component that has ended.
func (m *nodes) forget(c *component) {
	m.comps = slices.DeleteFunc(m.comps, func(x *component) bool { return x == c })
}

func (m *nodes) close() {
	for _, c := range m.comps {
		c.end(syscall.SIGTERM)
	}
	for _, g := range m.alive() {
		g.end(syscall.SIGTERM)
	}
	m.comps, m.gateways = nil, nil
}

// tails are the ends of what all processes wrote.
func (m *nodes) tails() string {
	var t strings.Builder
	for _, g := range m.alive() {
		fmt.Fprintf(&t, "%s:\n%s", g.name, g.tail())
	}
	for _, c := range m.comps {
		fmt.Fprintf(&t, "%s:\n%s", c.name, c.tail())
	}
	return t.String()
}

func makeFolder(dir string) error { return os.MkdirAll(dir, 0o700) }
