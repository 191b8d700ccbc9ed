package parts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// pom names what `mvn` fetches; a change of it makes a new folder in the cache.
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>kar</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.1.0</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-server</artifactId><version>4.1.0</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
`

// clusterID is the one of every Kafka of this package, so that formatted
// folders can be kept.
const clusterID = "a2FyLWthZmthLXRlc3RzIQ"

// A kafkaInstall is a folder with Kafka's jars.
type kafkaInstall struct{ dir string }

// installKafka fetches Kafka once; several processes may call it at a time.
func installKafka(ctx context.Context) (*kafkaInstall, error) {
	sum := sha256.Sum256([]byte(pom))
	root, err := cacheRoot()
	if err != nil {
		return nil, err
	}
	k := &kafkaInstall{filepath.Join(root, "kafka-"+hex.EncodeToString(sum[:])[:16])}
	if err := programs(ctx, "java", "default-jre-headless"); err != nil {
		return nil, err
	}
	err = once(k.dir, func() error { return k.fetch(ctx) })
	return k, err
}

func (k *kafkaInstall) fetch(ctx context.Context) error {
	if err := programs(ctx, "mvn", "maven"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(k.dir, "pom.xml"), []byte(pom), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory="+filepath.Join(k.dir, "lib"))
	cmd.Dir = k.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("parts: fetch Kafka with Maven: %w: %s", err, tail(out))
	}
	k.archive(ctx)
	return nil
}

// archive starts a broker once and keeps its loaded classes, which makes every
// later start a third faster. Without it all works as well.
func (k *kafkaInstall) archive(ctx context.Context) {
	dir, err := os.MkdirTemp("", "kar-kafka-*")
	if err != nil {
		return
	}
	defer os.RemoveAll(dir)
	cluster := &Kafka{dir: dir, opts: KafkaOptions{Brokers: 1}, install: k, listeners: []string{ListenerPlain}}
	if cluster.layOut(ctx) != nil || os.MkdirAll(filepath.Join(dir, "broker0", "data"), 0o755) != nil {
		return
	}
	if k.formatWith(ctx, 1, filepath.Join(dir, "broker0", "data")) != nil || cluster.prepare(ctx, 0) != nil {
		return
	}
	unfinished := k.classes() + ".new"
	args := []string{"-Xmx384m", "-XX:+UseSerialGC", "-XX:ArchiveClassesAtExit=" + unfinished, "-cp", k.path(), "kafka.Kafka", cluster.config(0)}
	cluster.nodes[0].child, err = startChild(exec.CommandContext(context.WithoutCancel(ctx), "java", args...))
	if err != nil {
		return
	}
	defer cluster.Close()
	if cluster.await(ctx, 0) != nil || cluster.Stop(0) != nil || os.Rename(unfinished, k.classes()) != nil {
		return
	}
}

func (k *kafkaInstall) path() string    { return filepath.Join(k.dir, "lib", "*") }
func (k *kafkaInstall) classes() string { return filepath.Join(k.dir, "classes.jsa") }

func (k *kafkaInstall) flags() []string {
	f := []string{"-XX:+UseSerialGC"} // measured: starts a little faster, and uses no threads beside the others
	if _, err := os.Stat(k.classes()); err == nil {
		f = append(f, "-Xshare:auto", "-XX:SharedArchiveFile="+k.classes())
	}
	return append(f, "-cp", k.path())
}

func (k *kafkaInstall) java(ctx context.Context, class string, args ...string) (string, error) {
	args = append([]string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", k.path(), class}, args...)
	out, err := exec.CommandContext(ctx, "java", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("parts: %s: %w: %s", class, err, tail(out))
	}
	return string(out), nil
}

// format makes the data folder of a node. The work is done once per node
// number and copied from then on: it takes a JVM of its own.
func (k *kafkaInstall) format(ctx context.Context, node int, data string) error {
	kept := filepath.Join(k.dir, fmt.Sprintf("node%d", node))
	if err := once(kept, func() error { return k.formatWith(ctx, node, kept) }); err != nil {
		return err
	}
	for _, name := range []string{"meta.properties", "bootstrap.checkpoint"} {
		b, err := os.ReadFile(filepath.Join(kept, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(data, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (k *kafkaInstall) formatWith(ctx context.Context, node int, data string) error {
	config := filepath.Join(data, "format.properties")
	text := fmt.Sprintf("process.roles=broker,controller\nnode.id=%d\ncontroller.quorum.voters=%d@127.0.0.1:1\nlisteners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1\ncontroller.listener.names=CONTROLLER\nlog.dirs=%s\n", node, node, data)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	defer os.Remove(config)
	args := []string{"format", "-t", clusterID, "-c", config}
	for _, user := range []string{KafkaUser, KafkaGuest} {
		for _, m := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", m, user, KafkaPassword))
		}
	}
	_, err := k.java(ctx, "kafka.tools.StorageTool", args...)
	return err
}

func cacheRoot() (string, error) {
	if root := os.Getenv("KAR_TEST_CACHE"); root != "" {
		return root, nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "kar-test"), err
}

// once fills dir, unless that has been done; other processes wait meanwhile.
func once(dir string, fill func() error) error {
	done := filepath.Join(dir, ".complete")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o644)
}

// programs installs a Debian package when its program is missing and this
// process may do that.
func programs(ctx context.Context, program, pkg string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Getuid() != 0 {
		return fmt.Errorf("parts: %s is not installed (Debian: apt-get install %s)", program, pkg)
	}
	root, err := cacheRoot()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(root, "apt.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for _, args := range [][]string{{"update", "-q"}, {"install", "-y", "-q", "--no-install-recommends", pkg}} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("parts: %s is not installed, and apt-get %s: %w: %s", program, strings.Join(args, " "), err, tail(out))
		}
	}
	_, err = exec.LookPath(program)
	return err
}

func tail(out []byte) string { return strings.TrimSpace(string(out[max(0, len(out)-1500):])) }
