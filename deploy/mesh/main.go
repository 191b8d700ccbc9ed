// Mesh runs a real Kafka, a real Redis and some gateways on this machine, for
// trying things out: `make mesh`. It ends everything with SIGINT.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

func main() {
	kar := flag.String("kar", "bin/kar", "the program")
	gateways := flag.Int("gateways", 3, "how many gateways")
	port := flag.Int("port", 8090, "port of the first gateway; the others follow")
	dir := flag.String("dir", "", "folder of Kafka's and Redis's data (default: a new one that is removed)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kar, *gateways, *port, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "mesh:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kar string, gateways, port int, dir string) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "kar-mesh-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	fmt.Println("starting Kafka and Redis; the first time they are installed, which takes a while")
	kafka, err := parts.StartKafka(ctx, filepath.Join(dir, "kafka"), parts.KafkaOptions{})
	if err != nil {
		return err
	}
	defer kafka.Close()
	redis, err := parts.StartRedis(ctx, filepath.Join(dir, "redis"), parts.RedisOptions{AppendOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()

	env := append(os.Environ(), "KAFKA_BROKERS="+strings.Join(kafka.Brokers(), ","), "REDIS_HOST="+redis.Host, "REDIS_PORT="+strconv.Itoa(redis.Port))
	var wait sync.WaitGroup
	defer wait.Wait()
	var addresses []string
	for i := range gateways {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i))
		cmd := exec.CommandContext(ctx, kar, "gateway", "--listen", address)
		cmd.Env, cmd.Stdout = env, os.Stdout
		cmd.Stderr = &prefixed{out: os.Stderr, prefix: fmt.Sprintf("gateway %d | ", i+1)}
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 15 * time.Second
		if err := cmd.Start(); err != nil {
			return err
		}
		wait.Go(func() {
			if err := cmd.Wait(); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "gateway %d ended: %v\n", i+1, err)
			}
		})
		addresses = append(addresses, "http://"+address)
		if err := ready(ctx, "http://"+address); err != nil {
			return err
		}
	}
	fmt.Printf(`
The mesh is ready.
  Kafka     %s
  Redis     %s
  gateways  %s

Components, and commands, in another terminal:
  export KAR_GATEWAY=%s
  %s run --app hello --service greeter -- node server.js

Kill any gateway at any time. Ctrl-C ends everything.

`, strings.Join(kafka.Brokers(), ","), redis.Addr(), strings.Join(addresses, " "), strings.Join(addresses, ","), kar)
	<-ctx.Done()
	return nil
}

// ready waits until a gateway answers.
func ready(ctx context.Context, address string) error {
	for end := time.Now().Add(30 * time.Second); ; {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/kar/ready", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not ready", address)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// prefixed writes whole lines behind a prefix.
type prefixed struct {
	out    io.Writer
	prefix string
	rest   []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		line, rest, ok := strings.Cut(string(p.rest), "\n")
		if !ok {
			return len(b), nil
		}
		p.rest = []byte(rest)
		if _, err := fmt.Fprintln(p.out, p.prefix+line); err != nil {
			return 0, err
		}
	}
}
