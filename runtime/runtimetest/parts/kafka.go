package parts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// KafkaOptions say what kind of Kafka to start. The zero value is one broker
// without passwords.
type KafkaOptions struct {
	// Brokers is 1 or 3; 0 is 1. All are brokers and controllers.
	Brokers int
	// Secure adds listeners with TLS and passwords, and permissions: see [Kafka.Listener].
	Secure bool
	// Properties are added to each broker's.
	Properties map[string]string
	// Heap is the memory of each JVM; "" is 384m.
	Heap string
	// Advertise says where clients shall connect instead of the plain listener
	// at addr, for example to a proxy that it starts; it is called once per broker.
	Advertise func(broker int, addr string) (string, error)
}

// The listeners of a broker. ListenerPlain is always there.
const (
	ListenerPlain     = "PLAINTEXT"
	ListenerTLS       = "TLS"     // TLS, no client certificate
	ListenerMutualTLS = "MUTUAL"  // TLS, client certificate required
	ListenerSASL      = "SASL"    // password: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
	ListenerSASLTLS   = "SASLTLS" // password over TLS
)

// The users of a secure Kafka. The first may do everything, as may who comes
// through a listener without a password; the second may do nothing.
const (
	KafkaUser     = "alice"
	KafkaGuest    = "guest"
	KafkaPassword = "correct horse"
)

// A Kafka is one or three broker processes on this machine.
type Kafka struct {
	dir       string
	opts      KafkaOptions
	install   *kafkaInstall
	listeners []string
	tls       *kafkaCerts
	nodes     []*kafkaNode
}

type kafkaNode struct {
	dir   string
	ports map[string]int // by listener; CONTROLLER and INNER too
	front string         // what Advertise said

	mu    sync.Mutex
	child *child
}

// StartKafka starts Kafka with its data in dir and returns when it answers.
// What it needs is installed first, which takes some seconds the first time.
func StartKafka(ctx context.Context, dir string, opts KafkaOptions) (*Kafka, error) {
	if opts.Brokers == 0 {
		opts.Brokers = 1
	}
	if opts.Brokers != 1 && opts.Brokers != 3 {
		return nil, fmt.Errorf("parts: %d brokers: only 1 or 3", opts.Brokers)
	}
	install, err := installKafka(ctx)
	if err != nil {
		return nil, err
	}
	k := &Kafka{dir: dir, opts: opts, install: install, listeners: []string{ListenerPlain}}
	if opts.Secure {
		k.listeners = append(k.listeners, ListenerTLS, ListenerMutualTLS, ListenerSASL, ListenerSASLTLS)
		if k.tls, err = makeKafkaCerts(filepath.Join(dir, "tls")); err != nil {
			return nil, err
		}
	}
	if err := k.layOut(ctx); err != nil {
		return nil, err
	}
	for i, n := range k.nodes {
		if opts.Advertise != nil {
			if n.front, err = opts.Advertise(i, fmt.Sprintf("127.0.0.1:%d", n.ports[ListenerPlain])); err != nil {
				return nil, err
			}
		}
		if err := k.prepare(ctx, i); err != nil {
			return nil, err
		}
	}
	for i := range k.nodes {
		if err := k.launch(ctx, i); err != nil {
			k.Close()
			return nil, err
		}
	}
	for i := range k.nodes {
		if err := k.await(ctx, i); err != nil {
			k.Close()
			return nil, err
		}
	}
	return k, nil
}

// Brokers are the addresses without password and TLS.
func (k *Kafka) Brokers() []string { return k.Listener(ListenerPlain) }

// Listener gives the addresses of one of the listeners.
func (k *Kafka) Listener(name string) []string {
	var all []string
	for _, n := range k.nodes {
		if name == ListenerPlain && n.front != "" {
			all = append(all, n.front)
		} else if p := n.ports[name]; p != 0 {
			all = append(all, fmt.Sprintf("127.0.0.1:%d", p))
		}
	}
	return all
}

// CA is the certificate of the authority behind the certificates, in PEM.
func (k *Kafka) CA() []byte { return k.tls.ca }

// Client is a client certificate for ListenerMutualTLS and its key, in PEM.
func (k *Kafka) Client() (cert, key []byte) { return k.tls.client, k.tls.clientKey }

// Tool runs one of Kafka's command line tools by its Java class.
func (k *Kafka) Tool(ctx context.Context, class string, args ...string) (string, error) {
	return k.install.java(ctx, class, args...)
}

// Stop ends broker i in an orderly way and waits for that.
func (k *Kafka) Stop(i int) error { return k.end(i, syscall.SIGTERM) }

// Kill ends broker i with SIGKILL.
func (k *Kafka) Kill(i int) error { return k.end(i, syscall.SIGKILL) }

// Pause stops broker i with SIGSTOP.
func (k *Kafka) Pause(i int) error { return k.signal(i, syscall.SIGSTOP) }

// Resume lets broker i go on.
func (k *Kafka) Resume(i int) error { return k.signal(i, syscall.SIGCONT) }

// Start starts broker i again on its data and ports, and waits until it answers.
func (k *Kafka) Start(ctx context.Context, i int) error {
	if err := k.launch(ctx, i); err != nil {
		return err
	}
	return k.await(ctx, i)
}

// Close kills what runs. The data stays; twice is fine.
func (k *Kafka) Close() error {
	var all error
	for i := range k.nodes {
		all = errors.Join(all, k.Kill(i))
	}
	return all
}

func (k *Kafka) signal(i int, s syscall.Signal) error {
	n := k.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.child == nil {
		return fmt.Errorf("parts: broker %d does not run", i)
	}
	return n.child.signal(s)
}

func (k *Kafka) end(i int, s syscall.Signal) error {
	n := k.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.child == nil {
		return nil
	}
	if err := n.child.signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-n.child.ended:
	case <-time.After(20 * time.Second):
		if err := n.child.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-n.child.ended
	}
	n.child = nil
	return nil
}

// layOut picks free ports; they stay the same over restarts.
func (k *Kafka) layOut(ctx context.Context) error {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for i := range k.opts.Brokers {
		n := &kafkaNode{dir: filepath.Join(k.dir, fmt.Sprintf("broker%d", i)), ports: map[string]int{}}
		for _, name := range append([]string{"CONTROLLER", "INNER"}, k.listeners...) {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			held = append(held, l)
			n.ports[name] = l.Addr().(*net.TCPAddr).Port
		}
		k.nodes = append(k.nodes, n)
	}
	return nil
}

func (k *Kafka) prepare(ctx context.Context, i int) error {
	n := k.nodes[i]
	data := filepath.Join(n.dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	var text strings.Builder
	properties := k.properties(i)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", key, properties[key])
	}
	if err := os.WriteFile(k.config(i), []byte(text.String()), 0o600); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(data, "meta.properties")); err == nil {
		return nil // started on the data of an earlier run
	}
	return k.install.format(ctx, i+1, data)
}

func (k *Kafka) config(i int) string { return filepath.Join(k.nodes[i].dir, "server.properties") }

func (k *Kafka) properties(i int) map[string]string {
	n := k.nodes[i]
	var voters, listeners, advertised, protocols []string
	for j, v := range k.nodes {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", j+1, v.ports["CONTROLLER"]))
	}
	protocol := map[string]string{
		"CONTROLLER": "PLAINTEXT", "INNER": "PLAINTEXT", ListenerPlain: "PLAINTEXT",
		ListenerTLS: "SSL", ListenerMutualTLS: "SSL", ListenerSASL: "SASL_PLAINTEXT", ListenerSASLTLS: "SASL_SSL",
	}
	for _, name := range slices.Sorted(maps.Keys(n.ports)) {
		at := fmt.Sprintf("%s://127.0.0.1:%d", name, n.ports[name])
		listeners = append(listeners, at)
		switch {
		case name == "CONTROLLER":
		case name == ListenerPlain && n.front != "":
			advertised = append(advertised, name+"://"+n.front)
		default:
			advertised = append(advertised, at)
		}
		protocols = append(protocols, name+":"+protocol[name])
	}
	copies, inSync := "1", "1"
	if len(k.nodes) > 1 {
		copies, inSync = "3", "2"
	}
	p := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  fmt.Sprint(i + 1),
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"listeners":                                strings.Join(listeners, ","),
		"advertised.listeners":                     strings.Join(advertised, ","),
		"controller.listener.names":                "CONTROLLER",
		"inter.broker.listener.name":               "INNER",
		"listener.security.protocol.map":           strings.Join(protocols, ","),
		"log.dirs":                                 filepath.Join(n.dir, "data"),
		"auto.create.topics.enable":                "false",
		"offsets.topic.replication.factor":         copies,
		"offsets.topic.num.partitions":             "1",
		"transaction.state.log.replication.factor": copies,
		"transaction.state.log.min.isr":            inSync,
		"group.initial.rebalance.delay.ms":         "0",
		// A broker that was killed may come back after this time; the usual 9 s
		// would be the longest wait of many a test.
		"broker.session.timeout.ms":    "2000",
		"broker.heartbeat.interval.ms": "500",
	}
	if k.opts.Secure {
		maps.Copy(p, k.tls.properties())
		p["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
		for _, name := range []string{ListenerSASL, ListenerSASLTLS} {
			prefix := "listener.name." + strings.ToLower(name)
			p[prefix+".plain.sasl.jaas.config"] = fmt.Sprintf(
				`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s" user_%s="%s";`,
				KafkaUser, KafkaPassword, KafkaGuest, KafkaPassword)
			for _, m := range []string{"256", "512"} {
				p[prefix+".scram-sha-"+m+".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
			}
		}
		p["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		p["super.users"] = "User:ANONYMOUS;User:CN=client;User:" + KafkaUser
	}
	maps.Copy(p, k.opts.Properties)
	return p
}

func (k *Kafka) launch(ctx context.Context, i int) error {
	n := k.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.child != nil {
		return fmt.Errorf("parts: broker %d runs already", i)
	}
	heap := k.opts.Heap
	if heap == "" {
		heap = "384m"
	}
	out, err := os.OpenFile(filepath.Join(n.dir, "output.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	args := append([]string{"-Xmx" + heap}, k.install.flags()...)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "java", append(args, "kafka.Kafka", k.config(i))...)
	cmd.Stdout, cmd.Stderr = out, out
	n.child, err = startChild(cmd)
	return err
}

// await returns when the broker answers on its inner listener, and accepts connections on
// the others: it has bound all of them by then, and is no longer fenced. That somebody
// accepts alone proves nothing: the ports were free until the broker took them, and
// others on this machine take what is free, too.
func (k *Kafka) await(ctx context.Context, i int) error {
	n := k.nodes[i]
	n.mu.Lock()
	c := n.child
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, name := range append([]string{"INNER"}, k.listeners...) {
		for {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", n.ports[name]))
			if err == nil {
				if name == "INNER" {
					err = speaksKafka(conn)
				}
				conn.Close()
			}
			if err == nil {
				break
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-c.ended:
				return fmt.Errorf("parts: Kafka ended while it started: %s", k.output(i))
			case <-ctx.Done():
				return fmt.Errorf("parts: Kafka does not answer: %w", ctx.Err())
			}
		}
	}
	return nil
}

// speaksKafka asks which requests the other end knows; ApiVersions is number 18.
func speaksKafka(conn net.Conn) error {
	const correlation = 0x4b41525f
	ask := []byte{0, 0, 0, 10, 0, 18, 0, 0}
	ask = binary.BigEndian.AppendUint32(ask, correlation)
	ask = append(ask, 0xff, 0xff) // no client id
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(ask); err != nil {
		return err
	}
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(head[4:]) != correlation {
		return errors.New("the other end is no Kafka")
	}
	return nil
}

// output is the end of what the broker wrote.
func (k *Kafka) output(i int) string {
	b, err := os.ReadFile(filepath.Join(k.nodes[i].dir, "output.txt"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}
