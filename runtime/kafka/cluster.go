package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// A Cluster is one mesh on one Kafka.
type Cluster struct {
	cfg    Config
	sarama *sarama.Config
	topic  string
	id     sarama.Uuid // of the log topic, as it was at Open
	// max.message.bytes of the log topic
	maxMessage atomic.Int64
	retention  atomic.Int64 // retention.ms of the log topic, -1 for ever
	damage     atomic.Pointer[runtime.Error]
	warned     atomic.Bool // that one broker holds all
	widened    atomic.Bool // said that the log topic has partitions that nobody uses
	topics     *topics
	quota      quota
	refreshes  shared
	work       sync.WaitGroup // requests in flight that nobody may be waiting for
	life       context.Context
	end        context.CancelFunc

	mu      sync.Mutex
	closed  bool
	raising bool                 // somebody asks whether maxMessage was raised
	brokers map[int32]string     // addresses by id
	leaders []int32              // broker ids by partition of the log, -1 when unknown
	missing time.Time            // since when the cluster does not know the log topic
	deleted *runtime.Error       // that it was deleted
	failed  map[string]time.Time // when a broker did not answer
	idle    map[string][]*conn
	lanes   map[laneKey]*lane
	senders map[string]*sender // by address
}

// Open connects, creates the topics of the mesh unless they exist, and checks
// them. Its errors are *runtime.Error and say what to do.
func Open(ctx context.Context, cfg Config) (*Cluster, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s, err := cfg.client()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg: cfg, sarama: s, topic: cfg.logTopic(), refreshes: newShared(),
		brokers: map[int32]string{}, failed: map[string]time.Time{}, idle: map[string][]*conn{}, lanes: map[laneKey]*lane{}, senders: map[string]*sender{},
	}
	c.life, c.end = context.WithCancel(context.WithoutCancel(ctx))
	c.topics, c.quota.c = newTopics(c), c
	if err := c.open(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) open(ctx context.Context) error {
	if err := c.checkVersions(ctx); err != nil {
		return err
	}
	id, err := c.ensureLog(ctx)
	if err != nil {
		return err
	}
	c.id = id
	if err := c.Check(ctx); err != nil {
		return err
	}
	return c.topics.memory.begin(ctx)
}

// MaxRecord is the size in bytes of the largest record that the log takes.
func (c *Cluster) MaxRecord() int { return int(c.maxMessage.Load()) - batchOverhead - recordOverhead }

// Retention is how long the log topic keeps records that nobody has trimmed; 0
// is for ever.
func (c *Cluster) Retention() time.Duration {
	if ms := c.retention.Load(); ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return 0
}

// Identity tells the log topic from all others, "" on brokers that do not say.
func (c *Cluster) Identity() string {
	if c.id == (sarama.Uuid{}) {
		return ""
	}
	return c.id.String()
}

// Log is the log of a partition.
func (c *Cluster) Log(partition uint16) (runtime.Log, error) {
	if int(partition) >= c.cfg.Partitions {
		return nil, fmt.Errorf("kafka: partition %d of %d", partition, c.cfg.Partitions)
	}
	return &log{c: c, partition: int32(partition)}, nil
}

// Topics are the event topics.
func (c *Cluster) Topics() runtime.Topics { return c.topics }

// Close ends all connections; what is in flight fails.
func (c *Cluster) Close() error {
	c.mu.Lock()
	c.closed = true
	idle, lanes, senders := c.idle, c.lanes, c.senders
	c.idle, c.lanes, c.senders = nil, map[laneKey]*lane{}, nil
	c.mu.Unlock()
	c.end()
	for _, s := range senders {
		s.close()
	}
	for _, conns := range idle {
		for _, conn := range conns {
			conn.close()
		}
	}
	for _, l := range lanes {
		l.close()
	}
	c.topics.shut()
	c.work.Wait()
	return nil
}

func (c *Cluster) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func errClosed() error {
	return runtime.Errorf(runtime.CodeShutdown, "the connection to Kafka has been closed")
}

// anyBroker runs a request on the first broker that answers. One that did not
// lately is asked last, so that a broker which hangs is waited for once.
func (c *Cluster) anyBroker(ctx context.Context, request func(*sarama.Broker) error) error {
	var first error
	for _, addr := range c.addresses() {
		err := c.do(ctx, addr, request)
		c.failedNow(addr, passing(err))
		if err == nil || ctx.Err() != nil || !passing(err) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// slowAfter is the part of the time limit after which another broker is asked as well.
const slowAfter = 20

// ask puts a question to which every broker knows the answer. One that is slow is not
// waited for: the next is asked beside it, the first answer counts, and who was slow is
// asked last from then on.
func ask[T any](ctx context.Context, c *Cluster, question func(*sarama.Broker) (T, error)) (T, error) {
	type reply struct {
		addr  string
		value T
		err   error
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	addrs := c.addresses()
	replies := make(chan reply, len(addrs))
	var none T
	var first error
	waiting := map[string]bool{}
	for {
		if len(addrs) > 0 {
			addr := addrs[0]
			addrs = addrs[1:]
			waiting[addr] = true
			if !c.background(func() {
				r := reply{addr: addr}
				r.err = c.do(asking, addr, func(b *sarama.Broker) (err error) {
					r.value, err = question(b)
					return err
				})
				replies <- r
			}) {
				return none, errClosed()
			}
		}
		var slow <-chan time.Time
		if len(addrs) > 0 {
			slow = time.After(c.cfg.Timeout / slowAfter)
		}
		select {
		case r := <-replies:
			if r.err != nil && c.life.Err() != nil {
				return none, errClosed()
			}
			delete(waiting, r.addr)
			c.failedNow(r.addr, passing(r.err))
			if r.err == nil || ctx.Err() != nil || !passing(r.err) {
				return r.value, r.err
			}
			if first == nil {
				first = r.err
			}
			if len(addrs) == 0 && len(waiting) == 0 {
				return none, first
			}
		case <-slow:
			for addr := range waiting {
				c.failedNow(addr, true)
			}
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}

// failedNow notes whether a broker did not answer.
func (c *Cluster) failedNow(addr string, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.failed, addr); failed {
		c.failed[addr] = time.Now()
	}
}

// background is false once the cluster is closed, which waits for what was begun.
func (c *Cluster) background(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(f)
	return true
}

// addresses are the brokers of which the cluster has told, then the given
// ones, then all that did not answer, the latest last.
func (c *Cluster) addresses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, addr := range c.brokers {
		all = append(all, addr)
	}
	slices.Sort(all)
	for _, addr := range c.cfg.Brokers {
		if !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return c.failed[a].Compare(c.failed[b]) })
	return all
}

// metadata asks for topics, or for all when none is named.
func (c *Cluster) metadata(ctx context.Context, topics ...string) (*sarama.MetadataResponse, error) {
	answer, err := ask(ctx, c, func(b *sarama.Broker) (*sarama.MetadataResponse, error) {
		return b.GetMetadata(&sarama.MetadataRequest{Version: 10, Topics: topics})
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(answer.Brokers) > 0 {
		clear(c.brokers)
	}
	for _, b := range answer.Brokers {
		c.brokers[b.ID()] = b.Addr()
	}
	return answer, nil
}

// refresh asks who leads the partitions of the log, and notices when the topic
// is another one than before.
func (c *Cluster) refresh(ctx context.Context) error {
	answer, err := c.metadata(ctx, c.topic)
	if err != nil {
		return err
	}
	t, err := topicOf(answer, c.topic)
	c.met(err)
	if err != nil {
		return err
	}
	if t.Uuid != c.id {
		return c.damaged("the topic %s was deleted and created again while this gateway ran; its records are gone", c.topic)
	}
	c.lead(t)
	return nil
}

// met notes what the cluster has said of the log topic. One that it does not know for long
// was deleted: that is said once. Nothing stops for it, since nothing can go on anyway.
func (c *Cluster) met(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.missing, c.deleted = time.Time{}, nil
	case !errors.Is(err, sarama.ErrUnknownTopicOrPartition) || c.deleted != nil:
	case c.missing.IsZero():
		c.missing = time.Now()
	case time.Since(c.missing) > 2*c.cfg.Timeout:
		c.deleted = runtime.Errorf(runtime.CodeKafkaTopic, "the topic %s, which is the log of the mesh, was deleted: Kafka has not known it for %v", c.topic, 2*c.cfg.Timeout)
		c.cfg.Logger.Error("the log of the mesh is gone; nothing can be accepted", "error", c.deleted)
	}
}

// Deleted says that Kafka has not known the log topic for a while, nil when it has.
func (c *Cluster) Deleted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deleted == nil {
		return nil
	}
	return c.deleted
}

func (c *Cluster) lead(t *sarama.TopicMetadata) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaders = slices.Repeat([]int32{-1}, c.cfg.Partitions)
	for _, p := range t.Partitions {
		if int(p.ID) < len(c.leaders) && p.Err == sarama.ErrNoError {
			c.leaders[p.ID] = p.Leader
		}
	}
}

// leader is the address of the broker that leads a partition of the log.
func (c *Cluster) leader(ctx context.Context, partition int32) (string, error) {
	if addr := c.led(partition); addr != "" {
		return addr, nil
	}
	err := c.refreshes.do(ctx, func() error {
		if c.led(partition) != "" {
			return nil
		}
		return c.refresh(ctx)
	})
	if err != nil {
		return "", err
	}
	if addr := c.led(partition); addr != "" {
		return addr, nil
	}
	return "", runtime.Errorf(runtime.CodeKafkaUnreachable, "partition %d of %s has no leader at the moment", partition, c.topic)
}

func (c *Cluster) led(partition int32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(partition) < len(c.leaders) {
		return c.brokers[c.leaders[partition]]
	}
	return ""
}

// forget makes the next request ask who leads.
func (c *Cluster) forget(partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(partition) < len(c.leaders) {
		c.leaders[partition] = -1
	}
}

// damaged stops all appends of this process, to whatever partition: records that
// were acknowledged are not there any more.
func (c *Cluster) damaged(format string, args ...any) error {
	if c.damage.CompareAndSwap(nil, runtime.Errorf(runtime.CodeDamaged, format, args...)) {
		c.cfg.Logger.Error("the log of the mesh is damaged; nothing more is written to it", "error", c.damage.Load())
	}
	return c.damage.Load()
}

// Err is the damage that was found, if any.
func (c *Cluster) Err() error {
	if e := c.damage.Load(); e != nil {
		return e
	}
	return nil
}

// topicOf finds one topic in an answer.
func topicOf(answer *sarama.MetadataResponse, name string) (*sarama.TopicMetadata, error) {
	for _, t := range answer.Topics {
		if t.Name == name {
			if t.Err != sarama.ErrNoError && t.Err != sarama.ErrLeaderNotAvailable {
				return nil, t.Err
			}
			return t, nil
		}
	}
	return nil, sarama.ErrUnknownTopicOrPartition
}

func atoi(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
