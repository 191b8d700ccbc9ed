package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The sketch is the least that a durable call can be: a gateway that makes an
// accepted and a completed record durable, in groups, and a component behind
// one stream of messages. It has no rules, so what KAR does beyond it is the
// price of the rules. HTTP ends are plain net/http.

// The kinds of message on the stream.
const (
	msgCall   = iota // sidecar to gateway: a call by the component
	msgInvoke        // gateway to sidecar: run this
	msgAnswer        // sidecar to gateway: what the app said
	msgResult        // gateway to sidecar: the end of a msgCall
)

// A stream writes everything that is waiting in one flush.
type stream struct {
	c    net.Conn
	mu   sync.Mutex
	some *sync.Cond
	out  []byte
	dead bool
}

func newStream(c net.Conn) *stream {
	s := &stream{c: c}
	s.some = sync.NewCond(&s.mu)
	go s.write()
	return s
}

func (s *stream) send(kind byte, id uint64, parts ...[]byte) {
	n := 9
	for _, p := range parts {
		n += len(p)
	}
	s.mu.Lock()
	s.out = binary.BigEndian.AppendUint32(s.out, uint32(n))
	s.out = append(s.out, kind)
	s.out = binary.BigEndian.AppendUint64(s.out, id)
	for _, p := range parts {
		s.out = append(s.out, p...)
	}
	s.mu.Unlock()
	s.some.Signal()
}

func (s *stream) write() {
	var spare []byte
	for {
		s.mu.Lock()
		for len(s.out) == 0 && !s.dead {
			s.some.Wait()
		}
		out := s.out
		s.out = spare[:0]
		dead := s.dead
		s.mu.Unlock()
		if dead {
			return
		}
		if _, err := s.c.Write(out); err != nil {
			return
		}
		spare = out
	}
}

// read gives each message to visit until the stream ends; the payload is visit's to keep.
func (s *stream) read(visit func(kind byte, id uint64, payload []byte)) {
	r := bufio.NewReaderSize(s.c, 64<<10)
	var head [13]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			break
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:4])-9)
		if _, err := io.ReadFull(r, payload); err != nil {
			break
		}
		visit(head[4], binary.BigEndian.Uint64(head[5:]), payload)
	}
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
	s.some.Signal()
}

// A groupLog makes records durable: one append in flight, everything that
// waits goes into the next.
type groupLog struct {
	f     *os.File
	mu    sync.Mutex
	some  *sync.Cond
	bytes []byte
	then  []func()
}

func newGroupLog(path string) (*groupLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	g := &groupLog{f: f}
	g.some = sync.NewCond(&g.mu)
	go g.write()
	return g, nil
}

// append calls then once the record, padded to the size of the floor's, is durable.
func (g *groupLog) append(record []byte, then func()) {
	g.mu.Lock()
	g.bytes = binary.BigEndian.AppendUint32(g.bytes, uint32(len(record)))
	g.bytes = append(g.bytes, record...)
	g.bytes = append(g.bytes, make([]byte, max(0, recordSize-len(record)))...)
	g.then = append(g.then, then)
	g.mu.Unlock()
	g.some.Signal()
}

func (g *groupLog) write() {
	for {
		g.mu.Lock()
		for len(g.then) == 0 {
			g.some.Wait()
		}
		out, then := g.bytes, g.then
		g.bytes, g.then = nil, nil
		g.mu.Unlock()
		if _, err := g.f.Write(out); err != nil {
			panic(err)
		}
		if err := g.f.Sync(); err != nil {
			panic(err)
		}
		for _, f := range then {
			f()
		}
	}
}

type sketchGateway struct {
	// append calls then once the record is durable; what has one key stays in order.
	append func(key string, record []byte, then func())
	next   atomic.Uint64
	side   atomic.Pointer[stream]

	mu   sync.Mutex
	open map[uint64]sketchOpen
}

// A sketchOpen is a call that has not been completed.
type sketchOpen struct {
	key  string
	done func(answer []byte)
}

// runSketchGateway serves calls on one address and the sidecar's stream on another.
func runSketchGateway(api, attach, file string) error {
	log, err := newGroupLog(file)
	if err != nil {
		return err
	}
	return serveSketch(api, attach, func(_ string, record []byte, then func()) { log.append(record, then) })
}

func serveSketch(api, attach string, appendTo func(key string, record []byte, then func())) error {
	g := &sketchGateway{append: appendTo, open: map[uint64]sketchOpen{}}
	l, err := net.Listen("tcp", attach)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := newStream(c)
			g.side.Store(s)
			go s.read(func(kind byte, id uint64, payload []byte) { g.message(s, kind, id, payload) })
		}
	}()
	return http.ListenAndServe(api, g)
}

func (g *sketchGateway) message(s *stream, kind byte, id uint64, payload []byte) {
	switch kind {
	case msgCall:
		g.run(payload, func(answer []byte) { s.send(msgResult, id, answer) })
	case msgAnswer:
		g.mu.Lock()
		o := g.open[id]
		delete(g.open, id)
		g.mu.Unlock()
		g.append(o.key, payload, func() { o.done(payload) })
	}
}

// run accepts, invokes and completes one call.
func (g *sketchGateway) run(call []byte, done func(answer []byte)) {
	id := g.next.Add(1)
	path, _, _ := bytes.Cut(call, []byte{0})
	key := string(path)
	g.mu.Lock()
	g.open[id] = sketchOpen{key, done}
	g.mu.Unlock()
	g.append(key, call, func() { g.side.Load().send(msgInvoke, id, call) })
}

func (g *sketchGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.side.Load() == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	call, err := sketchCall(r)
	if err != nil {
		return
	}
	answer := make(chan []byte, 1)
	g.run(call, func(a []byte) { answer <- a })
	w.Header()["Content-Type"] = []string{"application/kar+json"}
	w.Write(<-answer)
}

// sketchCall turns …/actor/TYPE/ID/call/METHOD into the app's path, a zero byte
// and the body.
func sketchCall(r *http.Request) ([]byte, error) {
	_, rest, _ := strings.Cut(r.URL.Path, "/kar/v1/actor/")
	path := "/kar/impl/v1/actor/" + strings.Replace(rest, "/call/", "/", 1)
	body, err := io.ReadAll(r.Body)
	return append(append([]byte(path), 0), body...), err
}

type sketchSidecar struct {
	gateway *stream
	app     string
	client  http.Client
	next    atomic.Uint64
	mu      sync.Mutex
	open    map[uint64]chan []byte
}

// runSketchSidecar stands between the stream and the app, and serves the component's own calls.
func runSketchSidecar(api, attach, app string) error {
	c, err := net.DialTimeout("tcp", attach, 5*time.Second)
	if err != nil {
		return err
	}
	s := &sketchSidecar{gateway: newStream(c), app: app, open: map[uint64]chan []byte{}}
	s.client.Transport = &http.Transport{MaxIdleConnsPerHost: 512}
	go s.gateway.read(s.message)
	return http.ListenAndServe(api, s)
}

func (s *sketchSidecar) message(kind byte, id uint64, payload []byte) {
	switch kind {
	case msgInvoke:
		go s.invoke(id, payload)
	case msgResult:
		s.mu.Lock()
		answer := s.open[id]
		delete(s.open, id)
		s.mu.Unlock()
		answer <- payload
	}
}

func (s *sketchSidecar) invoke(id uint64, call []byte) {
	path, body, _ := bytes.Cut(call, []byte{0})
	res, err := s.client.Post("http://"+s.app+string(path), "application/kar+json", bytes.NewReader(body))
	if err != nil {
		return
	}
	answer, _ := io.ReadAll(res.Body)
	res.Body.Close()
	s.gateway.send(msgAnswer, id, answer)
}

func (s *sketchSidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, err := sketchCall(r)
	if err != nil {
		return
	}
	id := s.next.Add(1)
	answer := make(chan []byte, 1)
	s.mu.Lock()
	s.open[id] = answer
	s.mu.Unlock()
	s.gateway.send(msgCall, id, call)
	w.Header()["Content-Type"] = []string{"application/kar+json"}
	w.Write(<-answer)
}
