// Package redis keeps the view of a mesh's log, and the list of its gateways,
// in Redis: one node, a master that sentinels know, or a cluster.
//
// All keys of a mesh start with kar:{MESH, those of a partition share a hash
// tag. No key has a time to live, so that a policy that evicts such keys evicts
// none of these.
package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/karmesh/kar/runtime"
)

// A Config says where Redis is and whose data is kept there.
type Config struct {
	// Mesh and Partitions name the data: two meshes never share a key, and a
	// mesh of another number of partitions is refused.
	Mesh       string
	Partitions int

	// One of three: a single server (Host, Port), a master by name with the
	// addresses of its sentinels, or some addresses of a cluster.
	Host          string
	Port          int // 0: 6379
	Master        string
	Sentinels     []string // host:port
	Cluster       []string // host:port
	Database      int      // of a single server or a master
	User          string
	Password      string
	SentinelUser  string
	SentinelPass  string
	TLS           bool // also to the sentinels
	TLSSkipVerify bool
	CA            []byte // PEM; nil: those of the system
	Certificate   []byte // PEM of a client certificate and its key, both or none
	Key           []byte

	// Timeout bounds each operation, connecting included. 0: 3 s.
	Timeout time.Duration
	// SafeAfter is after which time what the store holds counts as safe, where
	// the server cannot say it. 0: 10 min.
	SafeAfter time.Duration
	Logger    *slog.Logger // nil: none

	// Dial reaches an address; nil: TCP. For tests.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Redis is a mesh's store and its list of gateways. It connects when needed
// and again whenever it was cut off.
type Redis struct {
	cfg      Config
	client   goredis.UniversalClient
	identity string
	scripts  scripts
	parts    []*partition
	tls      *tls.Config
	clock    func() time.Time

	mu      sync.Mutex
	skipped map[string]bool // entries of the list of gateways that the log has named
}

var (
	_ runtime.Store   = (*Redis)(nil)
	_ runtime.Members = (*Redis)(nil)
)

// Open checks the settings; it uses no network. Check does.
func Open(cfg Config) (*Redis, error) {
	cfg.Port = cmp.Or(cfg.Port, 6379)
	cfg.Timeout = cmp.Or(cfg.Timeout, 3*time.Second)
	cfg.SafeAfter = cmp.Or(cfg.SafeAfter, 10*time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	// The library writes to standard error on its own; its errors come back too.
	logging.Disable()
	r := &Redis{cfg: cfg, tls: tlsConfig, identity: identity(cfg.Mesh, cfg.Partitions), scripts: newScripts(), clock: time.Now, skipped: map[string]bool{}}
	r.client = r.connect()
	for i := range cfg.Partitions {
		n := uint16(i)
		r.parts = append(r.parts, &partition{number: n, keys: partitionKeys(cfg.Mesh, n), turn: make(chan struct{}, 1), safe: safety{after: cfg.SafeAfter.Milliseconds()}})
	}
	return r, nil
}

func (c *Config) validate() error {
	ways := 0
	for _, given := range []bool{c.Host != "", c.Master != "" || len(c.Sentinels) > 0, len(c.Cluster) > 0} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return badConfig("give one of: a host, a master's name with its sentinels, or addresses of a cluster")
	case (c.Master == "") != (len(c.Sentinels) == 0):
		return badConfig("sentinels and the name of the master that they watch go together")
	case c.Port < 1 || c.Port > 65535:
		return badConfig("the port is %d", c.Port)
	case c.Mesh == "" || len(c.Mesh) > 200:
		return badConfig("the name of the mesh has %d bytes, but needs 1 to 200", len(c.Mesh))
	case c.Partitions < 1 || c.Partitions > 4096:
		return badConfig("%d partitions, but 1 to 4096 are possible", c.Partitions)
	case c.Database != 0 && len(c.Cluster) > 0:
		return badConfig("a cluster has database 0 only")
	}
	return nil
}

func badConfig(format string, args ...any) error {
	return runtime.Errorf(runtime.CodeBadConfig, "Redis: "+format, args...)
}

func (c *Config) tlsConfig() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.TLSSkipVerify}
	if len(c.CA) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(c.CA) {
			return nil, badConfig("the certificate authority is not PEM")
		}
	}
	if len(c.Certificate) > 0 || len(c.Key) > 0 {
		pair, err := tls.X509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, badConfig("the client certificate and its key do not fit: %v", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// poolSize is how many operations may be under way at once on one server: with
// a round trip of 1 ms some 60,000 a second.
const poolSize = 64

// clientName is what CLIENT LIST shows. KAR 1.x gave none.
const clientName = "kar"

// connect makes the client, which dials when it has something to say.
// Everything that is sent may be sent twice, so the library may repeat.
func (r *Redis) connect() goredis.UniversalClient {
	c := &r.cfg
	const retries = 2
	pause, longest := 10*time.Millisecond, 100*time.Millisecond
	off := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch {
	case len(c.Cluster) > 0:
		return goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: c.Cluster, Username: c.User, Password: c.Password, Protocol: 2, DisableIdentity: true, ClientName: clientName,
			TLSConfig: r.tls, Dialer: r.dialer(), DialTimeout: c.Timeout, DialerRetries: 1, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout,
			PoolTimeout: c.Timeout, PoolSize: poolSize, ContextTimeoutEnabled: true, MaxRedirects: 8,
			MinRetryBackoff: pause, MaxRetryBackoff: longest, MaintNotificationsConfig: off,
		})
	case len(c.Sentinels) > 0:
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: c.Master, SentinelAddrs: c.Sentinels, SentinelUsername: c.SentinelUser, SentinelPassword: c.SentinelPass,
			Username: c.User, Password: c.Password, DB: c.Database, Protocol: 2, DisableIdentity: true, ClientName: clientName,
			TLSConfig: r.tls, Dialer: r.dialer(), DialTimeout: c.Timeout, DialerRetries: 1, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout,
			PoolTimeout: c.Timeout, PoolSize: poolSize, ContextTimeoutEnabled: true,
			MaxRetries: retries, MinRetryBackoff: pause, MaxRetryBackoff: longest,
		})
	}
	return goredis.NewClient(&goredis.Options{
		Addr: c.addr(), Username: c.User, Password: c.Password, DB: c.Database, Protocol: 2, DisableIdentity: true, ClientName: clientName,
		TLSConfig: r.tls, Dialer: r.dialer(), DialTimeout: c.Timeout, DialerRetries: 1, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout,
		PoolTimeout: c.Timeout, PoolSize: poolSize, ContextTimeoutEnabled: true,
		MaxRetries: retries, MinRetryBackoff: pause, MaxRetryBackoff: longest, MaintNotificationsConfig: off,
	})
}

func (c *Config) addr() string { return net.JoinHostPort(c.Host, strconv.Itoa(c.Port)) }

// dialer speaks TLS itself, since a dialer that is given replaces that part of
// the library.
func (r *Redis) dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := r.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: r.cfg.Timeout, KeepAlive: 15 * time.Second}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		defer cancel()
		conn, err := dial(ctx, network, addr)
		if err != nil || r.tls == nil {
			return conn, err
		}
		t := r.tls.Clone()
		if t.ServerName == "" {
			t.ServerName, _, _ = net.SplitHostPort(addr)
		}
		secure := tls.Client(conn, t)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, &handshakeError{err}
		}
		return secure, nil
	}
}

type handshakeError struct{ cause error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.cause.Error() }
func (e *handshakeError) Unwrap() error { return e.cause }

// conn is one connection to the server that holds key, so that WAIT is about
// what was written on it.
func (r *Redis) conn(ctx context.Context, key string) (*goredis.Conn, func(), error) {
	var node *goredis.Client
	switch c := r.client.(type) {
	case *goredis.Client:
		node = c
	case *goredis.ClusterClient:
		var err error
		if node, err = c.MasterForKey(ctx, key); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, errors.New("unknown kind of client")
	}
	conn := node.Conn()
	return conn, func() { _ = conn.Close() }, nil
}

func (r *Redis) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.cfg.Timeout)
}

func (r *Redis) now() int64 { return r.clock().UnixMilli() }

// Close ends all connections.
func (r *Redis) Close() error {
	if err := r.client.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
		return r.fault("close the store", err)
	}
	return nil
}
