package mesh_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// A narrow passes requests to Kafka. While it is on, one that is longer than a packet
// never arrives, and nothing behind it on that connection: a path whose MTU is smaller
// than both ends think.
type narrow struct {
	net.Listener
	to string
	on atomic.Bool
}

func newNarrow(t *testing.T, to string) *narrow {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	n := &narrow{Listener: l, to: to}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.pass(c)
		}
	}()
	return n
}

func (n *narrow) pass(c net.Conn) {
	defer c.Close()
	b, err := net.Dial("tcp", n.to)
	if err != nil {
		return
	}
	defer b.Close()
	go func() { _, _ = io.Copy(c, b); _ = c.Close() }()
	for head := make([]byte, 4); ; {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		if n.on.Load() && len(body) > 1400 {
			_, _ = io.Copy(io.Discard, c) // until the client gives up
			return
		}
		if _, err := b.Write(append(head[:4:4], body...)); err != nil {
			return
		}
	}
}

// TestMeshGatewayThatCannotWrite: a gateway that may only read the log, one whose way to
// Kafka breaks between a hand-over and its claim, and one whose longer appends get lost
// keep nothing from the others.
func TestMeshGatewayThatCannotWrite(t *testing.T) {
	var front *link
	var path *narrow
	k := parts.NeedKafka(t, parts.KafkaOptions{Secure: true, Advertise: func(_ int, addr string) (string, error) {
		p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "kafka", "127.0.0.1:0", addr)
		if err := p.Start(); err != nil {
			return "", err
		}
		t.Cleanup(p.Stop)
		front, path = &link{p, t}, newNarrow(t, p.Listen)
		return path.Addr().String(), nil
	}})
	direct := []string{"KAFKA_BROKERS=" + strings.Join(k.Listener(parts.ListenerSASL), ","), "KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_USERNAME=" + parts.KafkaUser, "KAFKA_PASSWORD=" + parts.KafkaPassword}
	m, w := newMesh(t, options{kafka: k}), newWitness(t)
	g1, g2 := m.launchEnv(direct...), m.launchEnv(direct...)
	m.ready(g1)
	m.ready(g2)
	owned := func(gs ...*gateway) (n float64) {
		for _, g := range gs {
			n += g.metric("kar_partitions_owned")
		}
		return n
	}
	settings := sarama.NewConfig()
	settings.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin([]string{front.Listen}, settings)
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	may := &sarama.ResourceAcls{Resource: sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: "*", ResourcePatternType: sarama.AclPatternLiteral}}
	for _, op := range []sarama.AclOperation{sarama.AclOperationRead, sarama.AclOperationDescribe, sarama.AclOperationDescribeConfigs, sarama.AclOperationDelete} {
		may.Acls = append(may.Acls, &sarama.Acl{Principal: "User:" + parts.KafkaGuest, Host: "*", Operation: op, PermissionType: sarama.AclPermissionAllow})
	}
	must(t, admin.CreateACLs([]*sarama.ResourceAcls{may}))
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 8, kinds: []string{"touch", "tell", "add"}, try: 3 * time.Second, patience: time.Minute})
	l.progress("before", 30)
	eventually(t, 30*time.Second, "both have a share", func() bool { return owned(g1) > 0 && owned(g2) > 0 && owned(g1, g2) == partitions })

	from, given := time.Now(), m.metric("kar_partitions_given_total")
	reader := m.launchEnv(append(direct[:len(direct):len(direct)], "KAFKA_USERNAME="+parts.KafkaGuest)...)
	m.forget(reader)
	eventually(t, 30*time.Second, "it says that it can own nothing", func() bool { return strings.Contains(reader.out.String(), "cannot own partitions now") })
	if n := m.metric("kar_partitions_given_total") - given; n > 0 || owned(g1, g2) != partitions {
		t.Errorf("%v partitions were given to one that may only read; the others own %v", n, owned(g1, g2))
	}
	l.gaps(t, "with one that may only read", from, time.Now())
	reader.end(syscall.SIGKILL)

	from, given = time.Now(), m.metric("kar_partitions_given_total")
	front.slow(300 * time.Millisecond)
	plain := []string{"KAFKA_BROKERS=" + path.Addr().String()}
	cut := m.launchEnv(plain...)
	m.forget(cut)
	eventually(t, 30*time.Second, "something is given to the one with a slow way to Kafka", func() bool { return m.metric("kar_partitions_given_total") > given })
	front.cut()
	eventually(t, 20*time.Second, "the others own all", func() bool { return owned(g1, g2) == partitions })
	l.gaps(t, "with one that was cut off while it took", from, time.Now())
	cut.end(syscall.SIGKILL)
	front.mend()
	front.quick()

	far := m.launchEnv(plain...)
	m.forget(far)
	eventually(t, 30*time.Second, "it has a share", func() bool { return owned(far) > 1 && owned(g1, g2, far) == partitions })
	from = time.Now()
	had := owned(far)
	path.on.Store(true)
	big := strings.Repeat("x", 3000)
	for i := range 32 {
		go func() {
			client := &http.Client{Timeout: 3 * time.Second}
			_, _, _, _ = send(client, http.MethodPost, g1.url+fmt.Sprintf("/apps/a/kar/v1/actor/T/big%d/call/touch", i), map[string]string{"Content-Type": "application/kar+json"}, fmt.Sprintf("[%q,0]", big))
		}()
	}
	eventually(t, 40*time.Second, "the others own what it cannot write", func() bool {
		return strings.Contains(far.out.String(), "leaves it to others") && owned(far) < had && owned(g1, g2, far) == partitions
	})
	l.gaps(t, "with one whose long appends get lost", from, time.Now())
	path.on.Store(false)
	l.progress("afterwards", 30)
	l.verify()
	c.untouched()
}
