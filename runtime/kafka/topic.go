package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// The requests that KAR makes, by the number of their kind in Kafka's protocol,
// and the lowest version that will do. Topics have ids since Kafka 2.8.
func needs() []need {
	return []need{
		{0, "Produce", 7}, {1, "Fetch", 11}, {2, "ListOffsets", 5}, {3, "Metadata", 10},
		{19, "CreateTopics", 5}, {20, "DeleteTopics", 4}, {21, "DeleteRecords", 1}, {32, "DescribeConfigs", 2},
	}
}

type need struct {
	key     int16
	name    string
	version int16
}

func (c *Cluster) checkVersions(ctx context.Context) error {
	answer, err := ask(ctx, c, func(b *sarama.Broker) (*sarama.ApiVersionsResponse, error) {
		return b.ApiVersions(&sarama.ApiVersionsRequest{Version: 0})
	})
	if err != nil {
		return err
	}
	for _, n := range needs() {
		ok := slices.ContainsFunc(answer.ApiKeys, func(k sarama.ApiVersionsResponseKey) bool {
			return k.ApiKey == n.key && k.MaxVersion >= n.version
		})
		if !ok {
			return runtime.Errorf(runtime.CodeKafkaTooOld, "this Kafka does not know version %d of the request %s", n.version, n.name)
		}
	}
	return nil
}

// ensureLog creates the log topic unless it exists, waits until its partitions
// have leaders, and returns its id.
func (c *Cluster) ensureLog(ctx context.Context) (sarama.Uuid, error) {
	answer, err := c.metadata(ctx, c.topic)
	if err != nil {
		return sarama.Uuid{}, err
	}
	t, err := topicOf(answer, c.topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		copies := c.copies(answer)
		entries := c.cfg.wanted(copies)
		// Kafka deletes whole segments only, and no message may be larger than one.
		entries["segment.bytes"] = fmt.Sprint(max(32<<20, 2*c.cfg.maxMessage()))
		maps.Copy(entries, c.cfg.TopicConfig)
		created, err := c.create(ctx, c.topic, c.cfg.Partitions, copies, entries)
		if err != nil {
			return sarama.Uuid{}, err
		}
		if created {
			c.cfg.Logger.Info("created the log of the mesh", "topic", c.topic, "partitions", c.cfg.Partitions, "copies", copies)
		}
	} else if err != nil {
		return sarama.Uuid{}, c.topicFault(err, "read "+c.topic)
	} else if len(t.Partitions) < c.cfg.Partitions {
		return t.Uuid, nil // Check says so
	}
	t, err = c.settled(ctx, c.topic, c.cfg.Partitions)
	if err != nil {
		return sarama.Uuid{}, err
	}
	return t.Uuid, nil
}

// copies is how many there shall be of a new topic.
func (c *Cluster) copies(answer *sarama.MetadataResponse) int {
	if c.cfg.Replication > 0 {
		return c.cfg.Replication
	}
	return min(3, len(answer.Brokers))
}

// create reports whether the topic is new.
func (c *Cluster) create(ctx context.Context, topic string, partitions, copies int, entries map[string]string) (bool, error) {
	detail := &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: int16(copies), ConfigEntries: map[string]*string{}}
	for k, v := range entries {
		detail.ConfigEntries[k] = &v
	}
	var result *sarama.TopicError
	err := c.anyBroker(ctx, func(b *sarama.Broker) error {
		answer, err := b.CreateTopics(&sarama.CreateTopicsRequest{
			Version: 5, Timeout: c.cfg.Timeout, TopicDetails: map[string]*sarama.TopicDetail{topic: detail},
		})
		if err == nil {
			if result = answer.TopicErrors[topic]; result == nil {
				return errors.New("the answer does not name the topic")
			}
		}
		return err
	})
	switch {
	case err != nil:
		return false, err
	case result.Err == sarama.ErrNoError:
		return true, nil
	case result.Err == sarama.ErrTopicAlreadyExists:
		return false, nil
	}
	why := error(result.Err)
	if result.ErrMsg != nil && *result.ErrMsg != "" {
		why = fmt.Errorf("%w (%s)", result.Err, *result.ErrMsg)
	}
	return false, c.topicFault(why, fmt.Sprintf("create the topic %s with %d partitions and %d copies", topic, partitions, copies))
}

// topicFault puts a broker's refusal to do something with a topic into words.
func (c *Cluster) topicFault(err error, doing string) error {
	var coded *runtime.Error
	if errors.As(err, &coded) {
		return coded
	}
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrClusterAuthorizationFailed) {
		return c.forbidden(doing)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if code := sarama.KError(0); errors.As(err, &code) && (misplaced(code) || code == sarama.ErrRequestTimedOut || code == sarama.ErrNotController) {
		return runtime.Errorf(runtime.CodeKafkaUnreachable, "Kafka cannot %s now: %v", doing, err)
	}
	return runtime.Errorf(runtime.CodeKafkaTopic, "Kafka does not %s: %v", doing, err)
}

// settled waits until the partitions of a topic, which may be fresh, have
// leaders that know it: brokers tell of a topic before they serve it.
func (c *Cluster) settled(ctx context.Context, topic string, partitions int) (*sarama.TopicMetadata, error) {
	wait, cancel := context.WithTimeout(ctx, 3*c.cfg.Timeout)
	defer cancel()
	for {
		answer, err := c.metadata(wait, topic)
		if err == nil {
			var t *sarama.TopicMetadata
			if t, err = topicOf(answer, topic); err == nil {
				if err = c.served(wait, t, partitions); err == nil {
					return t, nil
				}
			}
		}
		if err = c.topicFault(err, "lead "+topic); !passing(err) && wait.Err() == nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait.Done():
			return nil, runtime.Errorf(runtime.CodeKafkaUnreachable, "not all partitions of the topic %s have a leader: %v", topic, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// served asks each leader for its partitions of the topic, of the first so many.
func (c *Cluster) served(ctx context.Context, t *sarama.TopicMetadata, partitions int) error {
	asks := map[int32]*sarama.OffsetRequest{}
	first := partitions
	for _, p := range t.Partitions {
		if int(p.ID) < first && p.Err == sarama.ErrNoError && p.Leader >= 0 {
			if asks[p.Leader] == nil {
				asks[p.Leader] = &sarama.OffsetRequest{Version: 5}
			}
			asks[p.Leader].AddBlock(t.Name, p.ID, sarama.OffsetNewest, 1)
			partitions--
		}
	}
	if partitions > 0 {
		return sarama.ErrLeaderNotAvailable
	}
	for id, ask := range asks {
		c.mu.Lock()
		addr := c.brokers[id]
		c.mu.Unlock()
		err := c.do(ctx, addr, func(b *sarama.Broker) error {
			answer, err := b.GetAvailableOffsets(ask)
			if err != nil {
				return err
			}
			for _, block := range answer.Blocks[t.Name] {
				if block.Err != sarama.ErrNoError {
					return block.Err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// passing tells whether waiting may help.
func passing(err error) bool {
	var coded *runtime.Error
	return errors.As(err, &coded) && coded.Code == runtime.CodeKafkaUnreachable
}

// Check looks at the log topic's settings, which somebody may have changed.
// The caller repeats it, each hour or so; with CodeKafkaUnreachable nothing was
// learned, with another code somebody has to do something.
func (c *Cluster) Check(ctx context.Context) error {
	if err := c.Err(); err != nil {
		return err
	}
	answer, err := c.metadata(ctx, c.topic)
	if err != nil {
		return err
	}
	t, err := topicOf(answer, c.topic)
	if err != nil {
		return c.topicFault(err, "read "+c.topic)
	}
	if t.Uuid != c.id {
		return c.damaged("the topic %s was deleted and created again while this gateway ran; its records are gone", c.topic)
	}
	if err := c.divided(len(t.Partitions)); err != nil {
		return err
	}
	has, err := c.settings(ctx, c.topic)
	if err != nil {
		return err
	}
	copies := 0
	for _, p := range t.Partitions {
		if int(p.ID) < c.cfg.Partitions {
			copies = max(copies, len(p.Replicas))
		}
	}
	c.largest(atoi(has["max.message.bytes"])) // whatever it is: the broker goes by it
	if err := c.judge(has, copies); err != nil {
		return err
	}
	if n := atoi(has["min.insync.replicas"]); n < 2 && !c.warned.Swap(true) {
		c.cfg.Logger.Warn("the log of the mesh is safe on one broker only: what was acknowledged in the last moments can be lost when that machine fails", "topic", c.topic, "copies", copies, "min.insync.replicas", n)
	}
	c.retention.Store(atoi(has["retention.ms"]))
	c.lead(t)
	return nil
}

// shrunk asks what the largest message is after one of up to limit bytes was refused,
// and tells whether it is less than that.
func (c *Cluster) shrunk(ctx context.Context, limit int) bool {
	if c.maxMessage.Load() < int64(limit) {
		return true // another partition has learnt it
	}
	has, err := c.settings(ctx, c.topic)
	now := atoi(has["max.message.bytes"])
	if err != nil || now <= batchOverhead+recordOverhead || now >= int64(limit) {
		return false
	}
	c.largest(now)
	return true
}

// largest takes what the largest message of the log is now. While it is less than this
// gateway needs, it is asked for again and again: somebody is about to set it right.
func (c *Cluster) largest(now int64) {
	key, want := "max.message.bytes", int64(c.cfg.maxMessage())
	switch was := c.maxMessage.Swap(now); {
	case was == now:
	case now < want && was != 0: // else Open says so
		c.cfg.Logger.Error("somebody has lowered the largest message of the log; larger requests are refused until it is set right: "+c.fix(key, fmt.Sprint(want)), "topic", c.topic, key, now)
	case now >= want && was != 0 && was < want:
		c.cfg.Logger.Info("the log takes large messages again", "topic", c.topic, key, now)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.maxMessage.Load() >= want || c.raising || c.closed {
		return
	}
	c.raising = true
	c.work.Go(func() {
		for c.lowered() {
			select {
			case <-time.After(raisePause):
			case <-c.life.Done():
				return
			}
			if has, err := c.settings(c.life, c.topic); err == nil {
				c.largest(atoi(has[key]))
			}
		}
	})
}

// lowered tells whether the limit is still to be asked for; who is told no does not ask.
func (c *Cluster) lowered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raising = c.maxMessage.Load() < int64(c.cfg.maxMessage())
	return c.raising
}

// raisePause is how long a limit that was lowered is believed.
const raisePause = 2 * time.Second

// divided judges the number of partitions of the log topic. Somebody may have given it
// more, which Kafka cannot take back: the mesh goes on with those that it has always had.
// Whether the setting is the one that the log was made with, its records say.
func (c *Cluster) divided(n int) error {
	if n < c.cfg.Partitions {
		return c.wrong("has %d partitions, and this mesh is set to %d; a log cannot be divided anew: set the number of partitions to that with which the mesh was begun, or use another mesh name", n, c.cfg.Partitions)
	}
	if n > c.cfg.Partitions && !c.widened.Swap(true) {
		c.cfg.Logger.Error("the log of the mesh has more partitions than the mesh; it goes on with its own, and nothing is ever in the others. The number of partitions of a mesh cannot be changed", "topic", c.topic, "has", n, "uses", c.cfg.Partitions)
	}
	return nil
}

func (c *Cluster) wrong(format string, args ...any) error {
	return runtime.Errorf(runtime.CodeKafkaTopic, "the topic %s %s", c.topic, fmt.Sprintf(format, args...))
}

// fix is what to type to set a setting right.
func (c *Cluster) fix(key, value string) string {
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s=%s", c.cfg.Brokers[0], c.topic, key, value)
}

// judge compares the settings of the topic with what KAR depends on.
func (c *Cluster) judge(has map[string]string, copies int) error {
	want := c.cfg.wanted(copies)
	reason := map[string]string{
		"cleanup.policy":                 "compaction or mixed clean-up drops records that count",
		"retention.ms":                   "it forgets records by age",
		"retention.bytes":                "it forgets records by size",
		"message.timestamp.type":         "clocks of clients would decide what is old",
		"unclean.leader.election.enable": "acknowledged records could be lost",
		"min.insync.replicas":            "acknowledged records could be on one broker only",
		"max.message.bytes":              "requests within the body limit would not fit",
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value, ok := has[key], has[key] == want[key]
		switch key {
		case "retention.ms":
			ok = ok || atoi(value) == -1 || c.cfg.RetentionCap > 0 && atoi(value) >= c.cfg.RetentionCap.Milliseconds()
		case "min.insync.replicas", "max.message.bytes":
			ok = atoi(value) >= atoi(want[key])
		}
		if !ok {
			return c.wrong("has %s=%s: %s. Set it right: %s", key, value, reason[key], c.fix(key, want[key]))
		}
	}
	if n := atoi(has["min.insync.replicas"]); n > int64(copies) {
		return c.wrong("has min.insync.replicas=%d and %d copies: nothing can ever be written. Set it right: %s", n, copies, c.fix("min.insync.replicas", want["min.insync.replicas"]))
	}
	return nil
}

// settings reads the configuration of a topic.
func (c *Cluster) settings(ctx context.Context, topic string) (map[string]string, error) {
	has := map[string]string{}
	err := c.anyBroker(ctx, func(b *sarama.Broker) error {
		answer, err := b.DescribeConfigs(&sarama.DescribeConfigsRequest{
			Version: 2, Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic}},
		})
		if err != nil {
			return err
		}
		for _, r := range answer.Resources {
			if code := sarama.KError(r.ErrorCode); code != sarama.ErrNoError {
				return code
			}
			for _, entry := range r.Configs {
				has[entry.Name] = strings.TrimSpace(entry.Value)
			}
		}
		return nil
	})
	if err != nil {
		return nil, c.topicFault(err, "describe the settings of "+topic)
	}
	return has, nil
}
