package redis

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

func wantCode(t *testing.T, what string, err error, code runtime.Code) {
	t.Helper()
	var e *runtime.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: %v, want code %s", what, err, code)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("%s: the error says the password: %v", what, err)
	}
}

func TestSettings(t *testing.T) {
	good := Config{Mesh: "m", Partitions: 4, Host: "localhost"}
	if _, err := Open(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"nowhere":         func(c *Config) { c.Host = "" },
		"two places":      func(c *Config) { c.Cluster = []string{"a:1"} },
		"no sentinels":    func(c *Config) { c.Host, c.Master = "", "m" },
		"no master":       func(c *Config) { c.Host, c.Sentinels = "", []string{"a:1"} },
		"port":            func(c *Config) { c.Port = 70000 },
		"no mesh":         func(c *Config) { c.Mesh = "" },
		"no partitions":   func(c *Config) { c.Partitions = 0 },
		"cluster with db": func(c *Config) { c.Host, c.Cluster, c.Database = "", []string{"a:1"}, 2 },
		"CA":              func(c *Config) { c.TLS, c.CA = true, []byte("x") },
		"half a pair":     func(c *Config) { c.TLS, c.Certificate = true, []byte("x") },
	} {
		c := good
		spoil(&c)
		_, err := Open(c)
		wantCode(t, name, err, runtime.CodeBadConfig)
	}
}

// TestBadServers: each thing that can be wrong is told apart.
func TestBadServers(t *testing.T) {
	t.Parallel()
	plain := parts.NeedRedis(t, parts.RedisOptions{})
	certs := newCerts(t)
	locked := parts.NeedRedis(t, parts.RedisOptions{Password: "secret"})
	users := parts.NeedRedis(t, parts.RedisOptions{ACL: []string{
		"user default on nopass ~* +@all",
		"user kar on >secret ~kar:* +@read +@write +@scripting +@connection +info +time +wait",
		"user reader on >secret ~kar:* +@read +@connection +info",
		"user stranger on >secret ~other:* +@all",
	}})
	secure := parts.NeedRedis(t, parts.RedisOptions{TLS: &certs.server})
	replica := parts.NeedRedis(t, parts.RedisOptions{ReplicaOf: plain.Addr()})
	evicts := parts.NeedRedis(t, parts.RedisOptions{Settings: []string{"maxmemory 50mb", "maxmemory-policy allkeys-lru"}})
	volatile := parts.NeedRedis(t, parts.RedisOptions{Settings: []string{"maxmemory 50mb", "maxmemory-policy volatile-lru"}})
	node := parts.NeedRedis(t, parts.RedisOptions{Cluster: true})
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()

	for name, c := range map[string]struct {
		server *parts.Redis
		change func(*Config)
		want   runtime.Code // "" for none
		says   string
	}{
		"good":               {server: plain},
		"refused":            {plain, func(c *Config) { c.Port = nobody.Addr().(*net.TCPAddr).Port }, runtime.CodeRedisUnreachable, "refused"},
		"unknown host":       {plain, func(c *Config) { c.Host = "nowhere.invalid" }, runtime.CodeRedisUnreachable, "nowhere.invalid"},
		"no password":        {locked, nil, runtime.CodeRedisAuth, ""},
		"wrong password":     {locked, func(c *Config) { c.Password = "secret2" }, runtime.CodeRedisAuth, ""},
		"password":           {locked, func(c *Config) { c.Password = "secret" }, "", ""},
		"needless password":  {plain, func(c *Config) { c.Password = "secret" }, "", ""},
		"user":               {users, func(c *Config) { c.User, c.Password = "kar", "secret" }, "", ""},
		"user, wrong":        {users, func(c *Config) { c.User, c.Password = "kar", "secret2" }, runtime.CodeRedisAuth, ""},
		"user, read only":    {users, func(c *Config) { c.User, c.Password = "reader", "secret" }, runtime.CodeRedisAuth, "reader"},
		"user, other keys":   {users, func(c *Config) { c.User, c.Password = "stranger", "secret" }, runtime.CodeRedisAuth, "stranger"},
		"TLS":                {secure, func(c *Config) { c.TLS, c.CA = true, certs.ca }, "", ""},
		"TLS with a client":  {secure, func(c *Config) { c.TLS, c.CA, c.Certificate, c.Key = true, certs.ca, certs.cert, certs.key }, "", ""},
		"TLS unchecked":      {secure, func(c *Config) { c.TLS, c.TLSSkipVerify = true, true }, "", ""},
		"TLS, unknown CA":    {secure, func(c *Config) { c.TLS = true }, runtime.CodeRedisTLS, "unknown authority"},
		"TLS, other name":    {secure, func(c *Config) { c.TLS, c.CA, c.Host = true, certs.ca, "localhost" }, runtime.CodeRedisTLS, "localhost"},
		"TLS to plain":       {plain, func(c *Config) { c.TLS, c.TLSSkipVerify = true, true }, runtime.CodeRedisTLS, "without TLS"},
		"plain to TLS":       {secure, nil, runtime.CodeRedisTLS, "speaks TLS"},
		"replica":            {replica, nil, runtime.CodeRedisSettings, "replica"},
		"evicts":             {evicts, nil, runtime.CodeRedisSettings, "allkeys-lru"},
		"evicts not these":   {volatile, nil, "", ""},
		"node of a cluster":  {node, nil, runtime.CodeRedisSettings, "cluster"},
		"not a cluster":      {plain, func(c *Config) { c.Host, c.Cluster = "", []string{plain.Addr()} }, runtime.CodeRedisSettings, "not a cluster"},
		"not a sentinel":     {plain, func(c *Config) { c.Host, c.Master, c.Sentinels = "", "m", []string{plain.Addr()} }, runtime.CodeRedisUnreachable, "sentinel"},
		"too old":            {plain, func(c *Config) { c.Port = oldRedis(t) }, runtime.CodeRedisSettings, "5.0.14"},
		"something else":     {plain, func(c *Config) { c.Port = webServer(t) }, runtime.CodeRedisUnreachable, ""},
		"foreign mesh":       {plain, func(c *Config) { c.Mesh = "one name" }, "", ""},
		"foreign mesh again": {plain, func(c *Config) { c.Mesh, c.Partitions = "one other", 2 }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := at(t, c.server)
			cfg.Timeout = time.Second
			if c.change != nil {
				c.change(&cfg)
			}
			began := time.Now()
			err := open(t, cfg).Check(t.Context())
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the answer took %v", took)
			}
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, name, err, c.want)
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			t.Log(err)
		})
	}
}

// TestForeign: a mesh of one name with another number of partitions is refused,
// also by a store that was not there to be checked.
func TestForeign(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	c := at(t, server)
	ours := checked(t, c)
	apply(t, ours, 0, 1, set("a", "1"))
	c.Partitions = 4
	other := open(t, c)
	err := other.Check(t.Context())
	wantCode(t, "check", err, runtime.CodeForeign)
	if err == nil || !strings.Contains(err.Error(), "partitions 2") || !strings.Contains(err.Error(), "partitions 4") {
		t.Errorf("%v does not name both", err)
	}
	_, err = other.Apply(t.Context(), 0, 1, 2, []runtime.Mutation{set("a", "2")})
	wantCode(t, "apply", err, runtime.CodeForeign)
	_, err = other.Applied(t.Context(), 0)
	wantCode(t, "applied", err, runtime.CodeForeign)
	_, err = other.Sync(t.Context(), 0)
	wantCode(t, "sync", err, runtime.CodeForeign)
	wantCode(t, "read", other.Read(t.Context(), 0, func(s runtime.Snapshot) error { _, err := s.Get([]byte("a")); return err }), runtime.CodeForeign)
	get(t, ours, "a", "1")

	c.Mesh, c.Partitions = c.Mesh+".2", 2
	apart := checked(t, c)
	applied(t, apart, 0)
	get(t, apart, "a", "")
}

// TestFull: a server without room refuses writes by name, keeps what it has,
// and goes on when there is room.
func TestFull(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{Settings: []string{"maxmemory 8mb", "maxmemory-policy noeviction"}})
	r := checked(t, at(t, server))
	big, at := strings.Repeat("x", 500_000), uint64(0)
	var err error
	for ; at < 50 && err == nil; at++ {
		_, err = r.Apply(t.Context(), 0, at, at+1, []runtime.Mutation{set(fmt.Sprint(at), big)})
	}
	at--
	wantCode(t, "full", err, runtime.CodeRedisNoWrites)
	applied(t, r, at)
	if _, err := server.Do(t.Context(), "CONFIG", "SET", "maxmemory", "0"); err != nil {
		t.Fatal(err)
	}
	apply(t, r, at, at+1, set("a", "1"))
	get(t, r, "0", big)
}

// TestBeginWhileFull: a server without room can be begun with. It knows the mesh
// that was there, and the gateways that cannot renew their entries.
func TestBeginWhileFull(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{Settings: []string{"maxmemory-policy noeviction"}})
	c := at(t, server)
	r := checked(t, c)
	old := runtime.Member{Node: "old", Address: "http://old"}
	if _, err := r.Announce(t.Context(), old, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Do(t.Context(), "CONFIG", "SET", "maxmemory", "1"); err != nil {
		t.Fatal(err)
	}
	for what, mesh := range map[string]string{"a mesh that was there": c.Mesh, "a new one": c.Mesh + ".new"} {
		c.Mesh = mesh
		x := open(t, c)
		err := x.Check(t.Context())
		if what == "a new one" {
			wantCode(t, what, err, runtime.CodeRedisNoWrites)
		} else if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		list, err := x.Announce(t.Context(), runtime.Member{Node: "new", Address: "http://new"}, time.Minute)
		wantCode(t, "announce in "+what, err, runtime.CodeRedisNoWrites)
		if found := len(list) == 1 && list[0].Node == "old"; found != (what != "a new one") {
			t.Errorf("%s: the list is %v", what, list)
		}
	}
}

// TestFaults: each word of Redis has its code.
func TestFaults(t *testing.T) {
	r := open(t, Config{Mesh: "m", Partitions: 1, Host: "h", User: "u", Password: "secret"})
	for text, want := range map[string]runtime.Code{
		"LOADING Redis is loading the dataset in memory": runtime.CodeRedisUnreachable,
		"MASTERDOWN Link with MASTER is down":            runtime.CodeRedisUnreachable,
		"EOF":                                            runtime.CodeRedisUnreachable,
		"READONLY You can't write against a read only replica.":          runtime.CodeRedisNoWrites,
		"MISCONF Redis is configured to save RDB snapshots, but":         runtime.CodeRedisNoWrites,
		"NOREPLICAS Not enough good replicas to write.":                  runtime.CodeRedisNoWrites,
		"OOM command not allowed when used memory > 'maxmemory'.":        runtime.CodeRedisNoWrites,
		"MOVED 123 127.0.0.1:7000":                                       runtime.CodeRedisSettings,
		"WRONGTYPE Operation against a key holding the wrong kind":       runtime.CodeForeign,
		"KARFOREIGN mesh m partitions 2 format 1":                        runtime.CodeForeign,
		"ERR invalid password":                                           runtime.CodeRedisAuth,
		"NOPERM No permissions to access a key":                          runtime.CodeRedisAuth,
		"ERR Error running script: user_script:1: -NOPERM no such right": runtime.CodeRedisAuth,
	} {
		wantCode(t, text, r.fault("try", errors.New(text)), want)
	}
	if r.fault("try", nil) != nil {
		t.Error("a fault of nothing")
	}
}

// oldRedis says that it is Redis 5.
func oldRedis(t *testing.T) int {
	info := "# Server\r\nredis_version:5.0.14\r\nrole:master\r\n"
	return listen(t, func(command string) string {
		switch strings.ToLower(command) {
		case "hello":
			return "-ERR unknown command `hello`\r\n"
		case "info":
			return fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
		}
		return "+OK\r\n"
	})
}

// webServer answers as no Redis does.
func webServer(t *testing.T) int {
	return listen(t, func(string) string { return "HTTP/1.1 400 Bad Request\r\n\r\n" })
}

func listen(t *testing.T, answer func(command string) string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				// A command is *N and N times a length and a word.
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					n, _ := strconv.Atoi(strings.TrimPrefix(lines.Text(), "*"))
					command := ""
					for i := 0; i < 2*n && lines.Scan(); i++ {
						if i == 1 {
							command = lines.Text()
						}
					}
					if _, err := conn.Write([]byte(answer(command))); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

type certs struct {
	ca, cert, key []byte
	server        parts.RedisTLS
}

// newCerts makes an authority and a pair for 127.0.0.1 that serves both ends.
func newCerts(t *testing.T) certs {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	c := certs{
		ca:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	dir := t.TempDir()
	c.server = parts.RedisTLS{CA: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for file, text := range map[string][]byte{c.server.CA: c.ca, c.server.Certificate: c.cert, c.server.Key: c.key} {
		must(os.WriteFile(file, text, 0o600))
	}
	return c
}

// A gateway whose clock is far from the others' is told so before it takes part.
func TestClockFarOff(t *testing.T) {
	t.Parallel()
	server := parts.NeedRedis(t, parts.RedisOptions{})
	for _, d := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
		r := open(t, Config{Host: server.Host, Port: server.Port, Mesh: "clock", Partitions: 1})
		r.clock = func() time.Time { return time.Now().Add(d) }
		var e *runtime.Error
		if err := r.Check(t.Context()); !errors.As(err, &e) || e.Code != runtime.CodeClockSkew {
			t.Errorf("%s: %v", d, err)
		}
	}
}
