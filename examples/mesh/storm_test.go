package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestStormOverEverything kills, stops and restarts everything in turn under load:
// gateways, components, sidecars, guards, the broker, Redis. KAR_SOAK is a
// duration that makes it longer; KAR_SEED repeats its choices.
func TestStormOverEverything(t *testing.T) {
	length := 20 * time.Second
	if v := os.Getenv("KAR_SOAK"); v != "" {
		var err error
		length, err = time.ParseDuration(v)
		must(t, err)
	}
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("KAR_SEED"); v != "" {
		_, err := fmt.Sscan(v, &seed)
		must(t, err)
	}
	t.Logf("seed %d, %s", seed, length)
	s := &storm{
		mesh: newMesh(t, options{kafka: parts.NeedKafka(t, parts.KafkaOptions{}), redis: parts.NeedRedis(t, parts.RedisOptions{AppendOnly: true})}),
		rng:  rand.New(rand.NewPCG(seed, 7)), done: map[string]int{}, longest: map[string]time.Duration{},
	}
	s.w = newWitness(t)
	s.three()
	s.comps = []*component{s.component(s.w, ""), s.component(s.w, "")}
	l := s.load(s.w, loadOptions{clients: 12, attempts: true, try: 2 * time.Second, ms: 3})
	l.progress("before the storm", 10)
	begin := time.Now()
	for time.Since(begin) < length {
		at := time.Now()
		what := s.strike(time.Since(begin) < 5*time.Minute)
		l.progress(what, 3)
		s.done[what]++
		s.longest[what] = max(s.longest[what], time.Since(at))
		for i, c := range s.comps {
			if !c.running() {
				s.comps[i] = s.component(s.w, "")
			}
		}
	}
	l.verify()
	for what, n := range s.done {
		t.Logf("%3d times %s; all clients went on after at most %s", n, what, s.longest[what].Round(time.Millisecond))
	}
}

type storm struct {
	*mesh
	rng     *rand.Rand
	w       *witness
	comps   []*component
	done    map[string]int
	longest map[string]time.Duration // until all clients had gone on
}

// strike hurts something; young means that the log still holds everything.
func (s *storm) strike(young bool) (what string) {
	t := s.t
	moment := time.Duration(500+s.rng.IntN(2500)) * time.Millisecond
	g := s.gateways[s.rng.IntN(len(s.gateways))]
	c := s.comps[s.rng.IntN(len(s.comps))]
	switch n := s.rng.IntN(14); n {
	case 0, 1, 2:
		s.forget(g)
		g.end(syscall.SIGKILL)
		s.gateway()
		return "gateway killed"
	case 3:
		s.forget(g)
		g.end(syscall.SIGTERM)
		s.gateway()
		return "gateway ended"
	case 4, 5:
		g.signal(syscall.SIGSTOP)
		time.Sleep(moment) // for which it is stopped
		g.signal(syscall.SIGCONT)
		return "gateway stopped"
	case 6, 7:
		syscall.Kill(c.app, syscall.SIGKILL)
		c.code(20 * time.Second)
		return "component killed"
	case 8:
		c.signal(syscall.SIGKILL)
		c.code(20 * time.Second)
		return "sidecar killed"
	case 9:
		syscall.Kill(parent(c.app), syscall.SIGKILL)
		c.code(20 * time.Second)
		return "guard killed"
	case 10:
		must(t, s.kafka.Kill(0))
		must(t, s.kafka.Start(t.Context(), 0))
		return "broker killed"
	case 11:
		must(t, s.kafka.Pause(0))
		time.Sleep(moment) // for which it is stopped
		must(t, s.kafka.Resume(0))
		return "broker stopped"
	case 12:
		restart(t, s.mesh)
		return "Redis killed"
	default:
		if young && s.rng.IntN(2) == 0 {
			must(t, s.redis.Flush(t.Context()))
			return "Redis emptied"
		}
		must(t, s.redis.Pause())
		time.Sleep(moment) // for which it is stopped
		must(t, s.redis.Resume())
		return "Redis stopped"
	}
}

// parent of a process, which is not to be killed when it is not known.
func parent(pid int) (ppid int) {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	_, rest, ok := strings.Cut(string(b), ") ")
	var state string
	if err != nil || !ok {
		return pid
	}
	if _, err := fmt.Sscan(rest, &state, &ppid); err != nil || ppid <= 1 {
		return pid
	}
	return ppid
}

// soak skips a test that takes long.
func soak(t *testing.T) {
	t.Helper()
	if os.Getenv("KAR_SOAK") == "" {
		t.Skip("this takes long: make soak")
	}
}

// TestMeshSoakThreeBrokers stops and kills each of three brokers in turn. The
// topics have three copies, of which two must hold what is acknowledged.
func TestMeshSoakThreeBrokers(t *testing.T) {
	soak(t)
	m, w := newMesh(t, options{kafka: parts.NeedKafka(t, parts.KafkaOptions{Brokers: 3})}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 12})
	l.progress("before", 20)
	for i := range 3 {
		for name, hurt := range map[string]func(int) error{"killed": m.kafka.Kill, "ended": m.kafka.Stop} {
			begin := time.Now()
			must(t, hurt(i))
			l.progress("broker "+name, 20)
			l.gaps(t, fmt.Sprintf("broker %d of three %s", i, name), begin, time.Now())
			if i == 1 { // and a gateway dies while one is missing
				begin = time.Now()
				m.forget(gs[0])
				gs[0].end(syscall.SIGKILL)
				gs = append(gs[1:], m.gateway())
				l.progress("gateway killed while a broker is away", 20)
				l.gaps(t, "gateway killed while a broker is away", begin, time.Now())
			}
			must(t, m.kafka.Start(t.Context(), i))
			l.progress("broker started", 20)
		}
	}
	l.verify()
	c1.untouched()
	c2.untouched()
}

// TestMeshSoakRedisFailover has the sentinels promote a replica that is
// seconds behind: what it has not is read from the log again, and gateways that
// write late do no harm.
func TestMeshSoakRedisFailover(t *testing.T) {
	soak(t)
	s := parts.NeedRedisSentinels(t, parts.RedisOptions{})
	m, w := newMesh(t, options{redis: s.Master, env: []string{
		"REDIS_HOST=", "REDIS_SENTINELS=" + strings.Join(s.Addrs(), ","), "REDIS_MASTER=" + s.Name,
	}}), newWitness(t)
	m.three()
	c := m.component(w, "")
	for i := range 30 {
		m.write(fmt.Sprintf("before%d", i), fmt.Sprint(i))
	}
	l := m.load(w, loadOptions{clients: 8})
	l.progress("before", 20)
	must(t, s.Replica.Pause())
	for i := range 30 {
		m.write(fmt.Sprintf("behind%d", i), fmt.Sprint(i))
	}
	l.progress("the replica is behind", 100)
	begin := time.Now()
	must(t, s.Master.Kill())
	must(t, s.Replica.Resume())
	l.progress("the replica is promoted", 20)
	l.gaps(t, "failover of Redis to a replica that is behind", begin, time.Now())
	must(t, s.Master.Start(t.Context())) // as a replica, with nothing
	l.progress("the old master is back", 50)
	l.verify()
	for i := range 30 {
		m.reads(fmt.Sprintf("before%d", i), fmt.Sprint(i))
		m.reads(fmt.Sprintf("behind%d", i), fmt.Sprint(i))
	}
	c.untouched()
}

// TestMeshSoakRedisCluster keeps state in a Redis cluster and restarts its nodes, empty.
func TestMeshSoakRedisCluster(t *testing.T) {
	soak(t)
	s := parts.NeedRedisCluster(t, parts.RedisOptions{})
	m, w := newMesh(t, options{redis: s.Nodes[0], env: []string{"REDIS_HOST=", "REDIS_CLUSTER=" + strings.Join(s.Addrs(), ",")}}), newWitness(t)
	gs := m.three()
	c := m.component(w, "")
	for i := range 30 {
		m.write(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
	}
	l := m.load(w, loadOptions{clients: 12})
	l.progress("before", 20)
	for i, node := range s.Nodes {
		begin := time.Now()
		must(t, node.Kill())
		time.Sleep(time.Second) // for which it is away
		must(t, node.Start(t.Context()))
		l.progress("node restarted", 20)
		l.gaps(t, fmt.Sprintf("node %d of a Redis cluster restarted, empty", i), begin, time.Now())
	}
	m.forget(gs[2])
	gs[2].end(syscall.SIGKILL)
	l.progress("a gateway killed", 20)
	l.verify()
	for i := range 30 {
		m.reads(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
	}
	c.untouched()
}

// TestMeshSoakDefaults runs the traces of 30 s and more with default settings:
// each gateway killed, one stopped for a minute, Redis stopped for a minute,
// the broker for half a minute.
func TestMeshSoakDefaults(t *testing.T) {
	soak(t)
	m, w := newMesh(t, options{
		kafka: parts.NeedKafka(t, parts.KafkaOptions{}),
		env:   []string{"KAR_GATEWAY_LEASE=", "KAR_LEASE=", "KAR_PARTITIONS="},
	}), newWitness(t)
	gs := m.three()
	c1, c2 := m.component(w, ""), m.component(w, "")
	l := m.load(w, loadOptions{clients: 12, keyless: false, patience: 3 * time.Minute, try: 5 * time.Second})
	l.progress("before", 50)
	during := func(what string, hurt func()) {
		t.Helper()
		begin := time.Now()
		hurt()
		l.progress(what, 50)
		l.gaps(t, what, begin, time.Now())
	}
	for i := range 3 {
		during("default leases: gateway killed", func() {
			m.forget(gs[i])
			gs[i].end(syscall.SIGKILL)
		})
		during("default leases: gateway joins", func() { gs[i] = m.gateway() })
	}
	during("default leases: gateway stopped for 60 s", func() {
		gs[0].signal(syscall.SIGSTOP)
		l.progress("while a gateway is stopped", 200)
		time.Sleep(50 * time.Second) // the length of the trace
		gs[0].signal(syscall.SIGCONT)
	})
	during("default leases: Redis stopped for 60 s", func() {
		must(t, m.redis.Pause())
		time.Sleep(60 * time.Second) // the length of the trace
		must(t, m.redis.Resume())
	})
	during("default leases: broker stopped for 30 s", func() {
		must(t, m.kafka.Pause(0))
		time.Sleep(30 * time.Second) // the length of the trace
		must(t, m.kafka.Resume(0))
	})
	l.verify()
	c1.untouched()
	c2.untouched()
}
