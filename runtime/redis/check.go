package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/karmesh/kar/runtime"
)

// oldest is the first version that has all that is used.
func oldest() [2]int { return [2]int{6, 2} }

// clockSkew is how far the clocks of the gateways, which all compare theirs with
// the store's, may be apart: ids carry the time.
const clockSkew = 2 * time.Minute

// Check reaches Redis, looks whether it may be used, and leaves the name of the
// mesh there. It returns within a few times Config.Timeout. An error with
// CodeRedisUnreachable or CodeRedisNoWrites may pass by itself; any other wants a
// change of settings.
func (r *Redis) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.Timeout)
	defer cancel()
	err := r.eachNode(ctx, r.checkNode)
	if err == nil {
		err = r.checkIdentity(ctx)
	}
	if err == nil {
		return nil
	}
	err = r.fault("use Redis", err)
	var e *runtime.Error
	if errors.As(err, &e) && e.Code == runtime.CodeRedisUnreachable {
		return r.probe(e)
	}
	return err
}

func (r *Redis) eachNode(ctx context.Context, check func(context.Context, *goredis.Client) error) error {
	switch c := r.client.(type) {
	case *goredis.ClusterClient:
		return c.ForEachMaster(ctx, check)
	case *goredis.Client:
		return check(ctx, c)
	}
	return nil
}

func (r *Redis) checkNode(ctx context.Context, node *goredis.Client) error {
	text, err := node.Info(ctx).Result()
	if err != nil {
		return err
	}
	info := readInfo(text)
	f := readFacts(info)
	at := r.place()
	refuse := func(format string, args ...any) error {
		return runtime.Errorf(runtime.CodeRedisSettings, "Redis at %s cannot be used: "+format, append([]any{at}, args...)...)
	}
	need := oldest()
	switch {
	case info["redis_version"] == "":
		return refuse("it does not say which version it is")
	case f.version[0] < need[0] || f.version[0] == need[0] && f.version[1] < need[1]:
		return refuse("it is version %s, but %d.%d or newer is needed", info["redis_version"], need[0], need[1])
	case (info["role"] == "slave" || info["role"] == "replica") && len(r.cfg.Sentinels)+len(r.cfg.Cluster) > 0:
		return runtime.Errorf(runtime.CodeRedisNoWrites, "Redis at %s takes no writes: it is a replica of %s now", at, net.JoinHostPort(info["master_host"], info["master_port"]))
	case info["role"] == "slave" || info["role"] == "replica":
		return refuse("it is a read-only replica of %s; use the master", net.JoinHostPort(info["master_host"], info["master_port"]))
	case strings.HasPrefix(info["maxmemory_policy"], "allkeys-"):
		return refuse("maxmemory-policy is %s, which drops state when memory is short; set it to noeviction", info["maxmemory_policy"])
	case info["cluster_enabled"] == "1" && len(r.cfg.Cluster) == 0:
		return refuse("it is part of a cluster; give addresses of the cluster instead of a single server")
	}
	asked := r.clock()
	theirs, err := node.Time(ctx).Result()
	if err != nil {
		return err
	}
	if d := asked.Sub(theirs); d.Abs() > clockSkew {
		return runtime.Errorf(runtime.CodeClockSkew, "the clock of this machine is %s from that of Redis at %s", d.Abs().Round(time.Second), at)
	}
	if !f.aof {
		r.cfg.Logger.Warn("Redis keeps no append-only file: a crash loses what was written since its last snapshot, which is then read from the log again",
			"redis", at, "safe after", r.cfg.SafeAfter, "replicas", f.replicas)
	}
	return nil
}

// checkIdentity leaves a name, or reads the one that is there. Every partition
// carries it too, for stores that are first reached later.
func (r *Redis) checkIdentity(ctx context.Context) error {
	key := identityKey(r.cfg.Mesh)
	found, err := r.client.Get(ctx, key).Result()
	if errors.Is(err, goredis.Nil) { // a server that takes no writes is asked for none without need
		if err := r.client.SetNX(ctx, key, r.identity, 0).Err(); err != nil {
			return err
		}
		found, err = r.client.Get(ctx, key).Result()
	}
	if err != nil {
		return err
	}
	if found != r.identity {
		return errors.New("KARFOREIGN " + found)
	}
	// A user who may write but not run scripts fails here and not in the middle.
	_, err = r.list(r.scripts.applied.Run(ctx, r.client, r.parts[0].keys, r.identity))
	return err
}

// probe finds out whether the other side speaks, but not the same way.
func (r *Redis) probe(cause *runtime.Error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, addr := range r.addrs() {
		dial := r.cfg.Dial
		if dial == nil {
			dial = (&net.Dialer{}).DialContext
		}
		conn, err := dial(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		deadline, _ := ctx.Deadline()
		_ = conn.SetDeadline(deadline)
		speaks := ""
		if r.tls == nil {
			if tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) == nil {
				speaks = "speaks TLS, and this gateway was told not to"
			}
		} else if answersPlain(conn) {
			speaks = "speaks without TLS, and this gateway was told to use it"
		}
		conn.Close()
		if speaks != "" {
			return runtime.Errorf(runtime.CodeRedisTLS, "Redis at %s %s", addr, speaks)
		}
	}
	return cause
}

func answersPlain(conn net.Conn) bool {
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return false
	}
	b := make([]byte, 8)
	n, _ := conn.Read(b)
	return strings.HasPrefix(string(b[:n]), "+PONG") || strings.HasPrefix(string(b[:n]), "-NOAUTH")
}

func (r *Redis) addrs() []string {
	switch {
	case len(r.cfg.Cluster) > 0:
		return r.cfg.Cluster
	case len(r.cfg.Sentinels) > 0:
		return r.cfg.Sentinels
	}
	return []string{r.cfg.addr()}
}
