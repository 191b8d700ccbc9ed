package kafka_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// A lagging broker tells clients of fewer records than there are, as a leader that is
// new does where it may not say that it does not know yet.
type lagging struct {
	by atomic.Int64
	net.Listener
}

func startLagging(t *testing.T, addr string) (*lagging, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &lagging{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client, addr)
		}
	}()
	return p, nil
}

func (p *lagging) serve(client net.Conn, addr string) {
	defer client.Close()
	broker, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer broker.Close()
	var asked sync.Map // what is asked, by correlation id
	go func() {
		defer broker.Close()
		passFrames(broker, client, func(b []byte) {
			key, id := binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[4:])
			if key != 1 && key != 2 {
				return
			}
			body := b[10+max(int16(binary.BigEndian.Uint16(b[8:])), 0):]
			if int32(binary.BigEndian.Uint32(body)) == -1 { // a client
				asked.Store(id, key)
			}
		})
	}()
	passFrames(client, broker, func(b []byte) {
		key, found := asked.LoadAndDelete(binary.BigEndian.Uint32(b))
		if !found {
			return
		}
		at := 8 // behind the correlation id and a time
		if key == uint16(1) {
			at += 6 // the error and the session of a Fetch
		}
		at += 4 + 2 + int(binary.BigEndian.Uint16(b[at+4:])) + 4 + 4 + 2 // up to the error of one partition
		if key == uint16(2) {
			at += 8
		}
		offset := b[at:]
		if n := int64(binary.BigEndian.Uint64(offset)); n > 0 {
			binary.BigEndian.PutUint64(offset, uint64(max(n-p.by.Load(), 0)))
		}
	})
}

func passFrames(to io.Writer, from io.Reader, look func([]byte)) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(from, size[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(from, b); err != nil {
			return
		}
		look(b)
		if _, err := to.Write(append(size[:], b...)); err != nil {
			return
		}
	}
}

// A leader that does not know for long how far all copies have the log has lost
// nothing: it is waited for, and the log goes on when it knows.
func TestLeaderThatLags(t *testing.T) {
	var p *lagging
	k := parts.NeedKafka(t, parts.KafkaOptions{Advertise: func(_ int, addr string) (string, error) {
		var err error
		p, err = startLagging(t, addr)
		return p.Addr().String(), err
	}})
	cfg := config(t, k)
	cfg.Timeout = time.Second
	var c *kafka.Cluster
	eventually(t, "Kafka is there", func() (ok bool) {
		var err error
		c, err = kafka.Open(t.Context(), cfg)
		return err == nil
	})
	defer c.Close()
	l := openLog(t, c, 0)
	for i := range uint64(10) {
		appendAt(t, l, i, "record")
	}
	read := func(from uint64) (n int, err error) {
		err = l.Read(t.Context(), from, func(uint64, []byte) error { n++; return nil })
		return n, err
	}
	p.by.Store(3)
	for _, from := range []uint64{0, 8, 10} {
		_, err := read(from)
		wantCode(t, err, runtime.CodeKafkaUnreachable, "partition 0")
	}
	p.by.Store(0)
	appendAt(t, l, 10, "record")
	if n, err := read(0); n != 11 || err != nil {
		t.Errorf("%d records: %v", n, err)
	}
}
