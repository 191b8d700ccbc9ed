package main

import (
	"context"
	"hash/fnv"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
)

// kafkaRecord is the size in bytes of a record of the floor and the sketch over
// Kafka: about what one call adds to the log at each of its two appends.
const kafkaRecord = 300

// openLogs opens the logs of a mesh of its own, which is used by nobody else.
func openLogs(ctx context.Context, brokers []string, mesh string, partitions int) (*kafka.Cluster, []runtime.Log, error) {
	c, err := kafka.Open(ctx, kafka.Config{Brokers: brokers, Mesh: mesh, Partitions: partitions})
	if err != nil {
		return nil, nil, err
	}
	var logs []runtime.Log
	for p := range partitions {
		l, err := c.Log(uint16(p))
		if err != nil {
			c.Close()
			return nil, nil, err
		}
		logs = append(logs, l)
	}
	return c, logs, nil
}

// A kafkaGroup is group commit to one partition: one append in flight,
// everything that waits goes into the next.
type kafkaGroup struct {
	log     runtime.Log
	mu      sync.Mutex
	some    *sync.Cond
	records [][]byte
	then    []func()
}

func (g *kafkaGroup) append(record []byte, then func()) {
	padded := make([]byte, max(kafkaRecord, len(record)))
	copy(padded, record)
	g.mu.Lock()
	g.records = append(g.records, padded)
	g.then = append(g.then, then)
	g.mu.Unlock()
	g.some.Signal()
}

func (g *kafkaGroup) write() {
	for {
		g.mu.Lock()
		for len(g.then) == 0 {
			g.some.Wait()
		}
		out, then := g.records, g.then
		g.records, g.then = nil, nil
		g.mu.Unlock()
		if _, _, err := g.log.Append(context.Background(), out); err != nil {
			panic(err)
		}
		for _, f := range then {
			f()
		}
	}
}

// runSketchOnKafka is the sketch's gateway with as many logs on Kafka as are asked for.
func runSketchOnKafka(api, attach, brokers, partitions string) error {
	n, err := strconv.Atoi(partitions)
	if err != nil {
		return err
	}
	_, logs, err := openLogs(context.Background(), strings.Split(brokers, ","), "sketch"+partitions, n)
	if err != nil {
		return err
	}
	groups := make([]*kafkaGroup, n)
	for i, l := range logs {
		groups[i] = &kafkaGroup{log: l}
		groups[i].some = sync.NewCond(&groups[i].mu)
		go groups[i].write()
	}
	return serveSketch(api, attach, func(key string, record []byte, then func()) {
		h := fnv.New32a()
		h.Write([]byte(key))
		groups[h.Sum32()%uint32(n)].append(record, then)
	})
}

// A sketchMesh is a running sketch over Kafka.
type sketchMesh struct {
	api   string
	procs []*proc
}

func (s *sharedMesh) startSketch(partitions int) (*sketchMesh, error) {
	api, attach, side, appPort := "127.0.0.1:"+freePort(), "127.0.0.1:"+freePort(), "127.0.0.1:"+freePort(), freePort()
	m := &sketchMesh{api: api}
	dir := filepath.Join(s.dir, "sketch"+strconv.Itoa(partitions))
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		name string
		env  []string
		args []string
		addr string
	}{
		{"app", []string{"KAR_APP_PORT=" + appPort}, []string{"app"}, "127.0.0.1:" + appPort},
		{"gateway", nil, []string{"sketch-kafka", api, attach, strings.Join(s.kafka.Brokers(), ","), strconv.Itoa(partitions)}, attach},
		{"sidecar", nil, []string{"sketch-sidecar", side, attach, "127.0.0.1:" + appPort}, side},
	} {
		x, err := start(dir, p.name, p.env, append([]string{s.b.self}, p.args...)...)
		if err != nil {
			m.close()
			return nil, err
		}
		m.procs = append(m.procs, x)
		if _, err := until(s.b.ctx, p.name+" of the sketch", func() bool { return x.ended() || listening(p.addr) }); err != nil || x.ended() {
			m.close()
			return nil, &endedError{x, err}
		}
	}
	return m, nil
}

func (m *sketchMesh) close() {
	for _, p := range m.procs {
		p.end(syscall.SIGKILL)
	}
}
