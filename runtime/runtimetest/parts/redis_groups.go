package parts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A RedisSentinels is a master, a replica and three sentinels that watch them.
type RedisSentinels struct {
	Name      string // of the master, as the sentinels know it
	Master    *Redis
	Replica   *Redis
	Sentinels []*Redis
}

// StartRedisSentinels starts them; a master that is away for 1 s is replaced.
func StartRedisSentinels(ctx context.Context, dir string, o RedisOptions) (s *RedisSentinels, err error) {
	s = &RedisSentinels{Name: "kar"}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.Master, err = StartRedis(ctx, filepath.Join(dir, "master"), o); err != nil {
		return s, err
	}
	replica := o
	replica.ReplicaOf = s.Master.Addr()
	if s.Replica, err = StartRedis(ctx, filepath.Join(dir, "replica"), replica); err != nil {
		return s, err
	}
	for i := range 3 {
		watch := RedisOptions{Settings: []string{
			fmt.Sprintf("sentinel monitor %s %s %d 2", s.Name, s.Master.Host, s.Master.Port),
			fmt.Sprintf("sentinel down-after-milliseconds %s 1000", s.Name),
			fmt.Sprintf("sentinel failover-timeout %s 5000", s.Name),
		}}
		if o.Password != "" {
			watch.Settings = append(watch.Settings, fmt.Sprintf("sentinel auth-pass %s %s", s.Name, o.Password))
		}
		one, err := startRedis(ctx, filepath.Join(dir, "sentinel"+strconv.Itoa(i)), watch, true)
		if err != nil {
			return s, err
		}
		s.Sentinels = append(s.Sentinels, one)
	}
	return s, s.settled(ctx)
}

// settled waits until every sentinel knows the others and the replica.
func (s *RedisSentinels) settled(ctx context.Context) error {
	for _, one := range s.Sentinels {
		err := until(ctx, 30*time.Second, func() error {
			answer, err := one.Do(ctx, "SENTINEL", "CKQUORUM", s.Name)
			if err != nil {
				return err
			}
			if !strings.Contains(answer, "OK 3 usable") {
				return errors.New(answer)
			}
			count, err := one.Do(ctx, "SENTINEL", "REPLICAS", s.Name)
			if err == nil && count != "*1" {
				err = errors.New("replicas: " + count)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("the sentinels do not find each other: %w", err)
		}
	}
	return nil
}

// Addrs are those of the sentinels.
func (s *RedisSentinels) Addrs() (addrs []string) {
	for _, one := range s.Sentinels {
		addrs = append(addrs, one.Addr())
	}
	return addrs
}

// Close ends all of them.
func (s *RedisSentinels) Close() error {
	return closeAll(append([]*Redis{s.Master, s.Replica}, s.Sentinels...))
}

// A RedisCluster is three masters that share the slots.
type RedisCluster struct{ Nodes []*Redis }

// StartRedisCluster starts them and waits until all slots are served.
func StartRedisCluster(ctx context.Context, dir string, o RedisOptions) (c *RedisCluster, err error) {
	c = &RedisCluster{}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	o.Cluster = true
	for i := range 3 {
		node, err := StartRedis(ctx, filepath.Join(dir, "node"+strconv.Itoa(i)), o)
		if err != nil {
			return c, err
		}
		c.Nodes = append(c.Nodes, node)
		slots := []string{"CLUSTER", "ADDSLOTS"}
		for slot := i * 16384 / 3; slot < (i+1)*16384/3; slot++ {
			slots = append(slots, strconv.Itoa(slot))
		}
		if _, err := node.Do(ctx, slots...); err != nil {
			return c, err
		}
		if _, err := node.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return c, err
		}
	}
	for _, node := range c.Nodes[1:] {
		host, port, _ := net.SplitHostPort(c.Nodes[0].Addr())
		if _, err := node.Do(ctx, "CLUSTER", "MEET", host, port); err != nil {
			return c, err
		}
	}
	for _, node := range c.Nodes {
		err := until(ctx, 30*time.Second, func() error {
			// A key of each third: none is refused for want of a node.
			for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
				if answer, err := node.Do(ctx, "GET", key); err != nil && !strings.HasPrefix(err.Error(), "MOVED") {
					return fmt.Errorf("%s %w", answer, err)
				}
			}
			return nil
		})
		if err != nil {
			return c, fmt.Errorf("the cluster does not come up: %w", err)
		}
	}
	return c, nil
}

// Addrs are those of the nodes.
func (c *RedisCluster) Addrs() (addrs []string) {
	for _, node := range c.Nodes {
		addrs = append(addrs, node.Addr())
	}
	return addrs
}

// Close ends all of them.
func (c *RedisCluster) Close() error { return closeAll(c.Nodes) }

func closeAll(servers []*Redis) error {
	var all error
	for _, r := range servers {
		if r != nil {
			all = errors.Join(all, r.Close())
		}
	}
	return all
}

func until(ctx context.Context, most time.Duration, done func() error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		err := done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
