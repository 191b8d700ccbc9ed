package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/gateway"
	"github.com/karmesh/kar/gateway/peer"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
	"github.com/karmesh/kar/runtime/kafka"
	"github.com/karmesh/kar/runtime/redis"
)

// A backend is where a gateway keeps the log, the store and the topics: a
// folder of this machine, or the mesh's Kafka and Redis.
type backend struct {
	mesh string
	// identity tells the log from all others but its copies, "" when it does not say.
	identity string
	logs     func(partition uint16) (runtime.Log, error)
	store    runtime.Store
	topics   runtime.Topics
	// retention is after which time the log forgets by itself, 0 for never.
	retention time.Duration
	shared    *engine.Shared // nil for a folder
	peers     *peer.Peers    // nil for a folder
	strained  func() error   // why it works badly, nil for a folder
	check     func() error   // whether it is still what it was; called now and then
	close     func() error
}

// A sharedConfig says which mesh on which Kafka and Redis.
type sharedConfig struct {
	Mesh      string
	Kafka     kafka.Config
	Redis     redis.Config
	Advertise string // address for other gateways and for components, "" for the listening one
	Lease     time.Duration
	PeerTLS   *tls.Config // for addresses of other gateways with https
}

// peerStats counts the streams to other gateways.
func (b *backend) peerStats() (s gateway.PeerStats) {
	if b.peers != nil {
		s = gateway.PeerStats(b.peers.Stats())
	}
	return s
}

// openBackend opens what the settings name. Address is where other gateways
// reach this one.
func openBackend(ctx context.Context, cfg nodeConfig, boot, address string) (*backend, error) {
	if cfg.Shared != nil {
		return openShared(ctx, cfg, boot, address)
	}
	disk, err := openDisk(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &backend{
		mesh: "local", identity: disk.Identity(), logs: disk.Log, store: disk.Store(), topics: disk.Topics(),
		check: disk.Present, close: disk.Close,
	}, nil
}

// topicCheck is how often the settings of the mesh's topics are looked at again.
const topicCheck = time.Hour

func openShared(ctx context.Context, cfg nodeConfig, boot, address string) (_ *backend, err error) {
	s, log := cfg.Shared, cfg.Logger
	s.Kafka.Mesh, s.Kafka.Partitions, s.Kafka.BodyLimit, s.Kafka.Logger = s.Mesh, cfg.Partitions, cfg.BodyLimit, log
	s.Kafka.ThrottleLimit = s.Lease / 2 // appends are patient for several leases
	s.Redis.Mesh, s.Redis.Partitions, s.Redis.Logger = s.Mesh, cfg.Partitions, log
	store, err := redis.Open(s.Redis)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.Close())
		}
	}()
	if err := store.Check(ctx); err != nil {
		// A store that is away is no reason not to start; one that is wrong is.
		if !isCode(err, runtime.CodeRedisUnreachable) && !isCode(err, runtime.CodeRedisNoWrites) {
			return nil, err
		}
		log.Warn("the store cannot be used now; the gateway starts all the same", "error", err)
	}
	cluster, err := kafka.Open(ctx, s.Kafka)
	if err != nil {
		return nil, err
	}
	var handler atomic.Pointer[engine.PeerHandler]
	peers, err := peer.New(peer.Config{
		Knocked: func(node, address string) {
			if h := handler.Load(); h != nil {
				(*h).PeerKnocked(node, address)
			}
		},
		Mesh: s.Mesh, Node: boot, Address: address, Version: cfg.Version, TLS: s.PeerTLS, Logger: log,
		FrameLimit: frameLimit(cfg.BodyLimit),
		Silence:    s.Lease / 2, // so that a stopped gateway is found out within its lease
		Dial:       func(node string) peer.Handshake { return cfg.Keys.DialPeer(node) },
		Verify:     cfg.Keys.VerifyPeer,
	})
	if err != nil {
		return nil, errors.Join(err, cluster.Close())
	}
	checked := time.Now()
	return &backend{
		mesh: s.Mesh, identity: cluster.Identity(), logs: cluster.Log, store: store, topics: cluster.Topics(), peers: peers, retention: cluster.Retention(),
		shared: &engine.Shared{
			Connect: func(h engine.PeerHandler) (engine.Peers, error) {
				handler.Store(&h)
				peers.Start(h)
				return peers, nil
			},
			Members: store, Address: address, Version: cfg.Version, Log: cluster.Identity(), Lease: s.Lease,
		},
		strained: func() error { return cmp.Or(cluster.Deleted(), cluster.Throttled()) },
		check: func() error {
			if err := cluster.Err(); err != nil {
				return err
			}
			if time.Since(checked) < topicCheck {
				return nil
			}
			checked = time.Now()
			go checkTopics(ctx, cluster, log)
			return nil
		},
		close: func() error { return errors.Join(cluster.Close(), store.Close()) },
	}, nil
}

// checkTopics says in the log what somebody has changed; what is accepted from
// then on is at risk, but to stop would help nobody.
func checkTopics(ctx context.Context, cluster *kafka.Cluster, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := cluster.Check(ctx); err != nil && ctx.Err() == nil {
		log.Error("the topics of the mesh are not what they must be", "error", err)
	}
}

func isCode(err error, code runtime.Code) bool {
	var e *runtime.Error
	return errors.As(err, &e) && e.Code == code
}

// advertised is the address that other gateways and components are told: what
// the settings say, else the one that is listened on; a machine that listens
// on all addresses has to pick one.
func advertised(say, scheme string, l net.Addr) (string, error) {
	if say != "" {
		return say, nil
	}
	tcp, ok := l.(*net.TCPAddr)
	if !ok {
		return "", fmt.Errorf("%v is no TCP address", l)
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		name, err := os.Hostname()
		if err != nil {
			return "", runtime.Errorf(runtime.CodeBadConfig, "this machine's name is not known; give --advertise, the address at which other gateways reach this one")
		}
		host = name
	}
	return scheme + net.JoinHostPort(host, fmt.Sprint(tcp.Port)), nil
}

// maxBody is the largest --body-limit: a body goes between gateways in one frame, which
// has at most 256 MiB.
const maxBody = 192 << 20

// frameLimit has room for the largest body, with all that is said of its request.
func frameLimit(body int) int { return max(64<<20, body+16<<20) }
