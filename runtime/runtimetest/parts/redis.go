package parts

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// RedisOptions say how a Redis server is set up. The zero value keeps nothing
// on disk and lets everybody in.
type RedisOptions struct {
	// AppendOnly keeps an append-only file, synced each second; AppendSync "always" or "no" changes that.
	AppendOnly bool
	AppendSync string
	// Save is the setting of that name, for example "1 1"; "" for no snapshots.
	Save     string
	Password string
	ACL      []string // lines of an ACL file: "user kar on >secret ~kar:* +@all"
	TLS      *RedisTLS
	// ReplicaOf is host:port of a master.
	ReplicaOf string
	Cluster   bool
	// Settings are further lines of the configuration file.
	Settings []string
	Port     int // 0: a free one
}

// RedisTLS makes the port speak TLS only. Paths of PEM files.
type RedisTLS struct{ CA, Certificate, Key string }

// A Redis is a real server of this process; it dies with it.
type Redis struct {
	Host string
	Port int
	Dir  string

	options RedisOptions
	binary  string
	args    []string

	mu      sync.Mutex
	process *os.Process
	ended   chan struct{}
}

// Addr is host:port.
func (r *Redis) Addr() string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// StartRedis starts a server whose files lie in dir and waits until it answers.
func StartRedis(ctx context.Context, dir string, o RedisOptions) (*Redis, error) {
	return startRedis(ctx, dir, o, false)
}

func startRedis(ctx context.Context, dir string, o RedisOptions, sentinel bool) (*Redis, error) {
	binary, err := redisBinary(ctx)
	if err != nil {
		return nil, err
	}
	if o.Port == 0 {
		if o.Port, err = redisPort(); err != nil {
			return nil, err
		}
	}
	r := &Redis{Host: "127.0.0.1", Port: o.Port, Dir: dir, options: o, binary: binary}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "redis.conf")
	if len(o.ACL) > 0 {
		if err := os.WriteFile(filepath.Join(dir, "users.acl"), []byte(strings.Join(o.ACL, "\n")+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(file, []byte(r.settings(sentinel)), 0o600); err != nil {
		return nil, err
	}
	r.args = []string{file}
	if sentinel {
		r.args = append(r.args, "--sentinel")
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Redis) settings(sentinel bool) string {
	o := r.options
	lines := []string{"bind 127.0.0.1", "daemonize no", "dir " + r.Dir, "protected-mode no"}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if o.TLS != nil {
		add("port 0\ntls-port %d\ntls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\ntls-auth-clients optional",
			r.Port, o.TLS.Certificate, o.TLS.Key, o.TLS.CA)
	} else {
		add("port %d", r.Port)
	}
	if !sentinel {
		add("save %s", orQuotes(o.Save))
		add("appendonly %s", map[bool]string{true: "yes", false: "no"}[o.AppendOnly])
		add("repl-diskless-sync-delay 0\nrepl-ping-replica-period 1")
		if o.AppendSync != "" {
			add("appendfsync %s", o.AppendSync)
		}
	}
	if o.Password != "" {
		add("requirepass %s\nmasterauth %s", o.Password, o.Password)
	}
	if len(o.ACL) > 0 {
		add("aclfile %s", filepath.Join(r.Dir, "users.acl"))
	}
	if o.ReplicaOf != "" {
		host, port, _ := net.SplitHostPort(o.ReplicaOf)
		add("replicaof %s %s", host, port)
	}
	if o.Cluster {
		add("cluster-enabled yes\ncluster-node-timeout 2000") // the nodes talk on the port plus 10000
	}
	return strings.Join(append(lines, o.Settings...), "\n") + "\n"
}

func orQuotes(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

// Start starts the server again, on what it left on disk.
func (r *Redis) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		return errors.New("this Redis runs already")
	}
	log, err := os.OpenFile(filepath.Join(r.Dir, "redis.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(r.binary, r.args...) //nolint:noctx // it outlives the call; Kill and Stop end it
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = redisDiesWithUs()
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		defer log.Close()
		// The kernel ends the child with the thread that started it.
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", r.binary, err)
	}
	r.process, r.ended = cmd.Process, ended
	if err := r.ready(ctx); err != nil {
		_ = cmd.Process.Kill()
		<-ended
		r.process = nil
		text, _ := os.ReadFile(filepath.Join(r.Dir, "redis.log"))
		return fmt.Errorf("redis-server on port %d: %w\n%s", r.Port, err, text[max(0, len(text)-2000):])
	}
	return nil
}

// ready waits for an answer that is not "loading".
func (r *Redis) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		answer, err := r.command(ctx, "PING")
		if err == nil && (strings.HasPrefix(answer, "+PONG") || strings.HasPrefix(answer, "-NOAUTH") || strings.HasPrefix(answer, "-NOPERM")) {
			return nil
		}
		select {
		case <-r.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("it did not answer PING: %v %w", answer, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// command sends one command of words without spaces and returns the first line
// of the answer, as it is on the wire.
func (r *Redis) command(ctx context.Context, line string) (string, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", r.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if r.options.TLS != nil {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	in := bufio.NewReader(conn)
	if r.options.Password != "" {
		if _, err := fmt.Fprintf(conn, "AUTH %s\r\n", r.options.Password); err != nil {
			return "", err
		}
		if answer, err := in.ReadString('\n'); err != nil {
			return answer, err
		}
	}
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
		return "", err
	}
	answer, err := in.ReadString('\n')
	return strings.TrimRight(answer, "\r\n"), err
}

// Do sends one command of words without spaces and returns the first line of
// the answer; an answer that is an error is an error.
func (r *Redis) Do(ctx context.Context, words ...string) (string, error) {
	answer, err := r.command(ctx, strings.Join(words, " "))
	if err == nil && strings.HasPrefix(answer, "-") {
		err = errors.New(answer[1:])
	}
	return strings.TrimLeft(answer, "+:"), err
}

// Flush removes all data.
func (r *Redis) Flush(ctx context.Context) error {
	_, err := r.Do(ctx, "FLUSHALL")
	return err
}

// Kill ends the server at once, as kill -9 does.
func (r *Redis) Kill() error { return r.end(syscall.SIGKILL) }

// Stop asks it to end in an orderly way.
func (r *Redis) Stop() error { return r.end(syscall.SIGTERM) }

func (r *Redis) end(s syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return nil
	}
	if err := r.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-r.ended:
	case <-time.After(10 * time.Second):
		_ = r.process.Kill()
		<-r.ended
	}
	r.process = nil
	return nil
}

// Pause stops the process; connections stay open and nothing answers.
func (r *Redis) Pause() error { return r.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (r *Redis) Resume() error { return r.signal(syscall.SIGCONT) }

func (r *Redis) signal(s syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return errors.New("this Redis does not run")
	}
	return r.process.Signal(s)
}

// Close ends the server for good; its folder stays.
func (r *Redis) Close() error { return r.Kill() }

// redisPort is a free port whose number plus 10000, where the nodes of a
// cluster talk, exists and is free too.
func redisPort() (int, error) {
	for range 100 {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		bus, busErr := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10000)))
		l.Close()
		if busErr == nil {
			bus.Close()
		}
		if port+10000 < 65536 && busErr == nil {
			return port, nil
		}
	}
	return 0, errors.New("no pair of free ports for Redis")
}

// redisBinary is $KAR_TEST_REDIS_SERVER (to test other versions), else
// redis-server from PATH, installed when that is possible.
func redisBinary(ctx context.Context) (string, error) {
	if path := os.Getenv("KAR_TEST_REDIS_SERVER"); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("redis-server"); err == nil {
		return path, nil
	}
	if os.Geteuid() != 0 {
		return "", errors.New("there is no redis-server in PATH; install one (Debian: apt-get install redis-server)")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", errors.New("there is neither redis-server nor apt-get in PATH; install Redis 6.2 or newer")
	}
	// Several test binaries may come here at once: one installs, others wait.
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "kar-parts-redis.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if path, err := exec.LookPath("redis-server"); err == nil {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "redis-server"}} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=120"}, args...)...)
		// The package should not start a server of its own.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil && args[0] == "install" {
			return "", fmt.Errorf("apt-get install redis-server: %w\n%s", err, out[max(0, len(out)-1000):])
		}
	}
	// Where it did all the same: the tests start their own.
	_ = exec.CommandContext(ctx, "systemctl", "disable", "--now", "redis-server").Run()
	return exec.LookPath("redis-server")
}
