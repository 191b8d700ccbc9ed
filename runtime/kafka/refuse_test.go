package kafka_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// admin does what an administrator does beside KAR.
func admin(t *testing.T, k *parts.Kafka) sarama.ClusterAdmin {
	t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V4_0_0_0
	a, err := sarama.NewClusterAdmin(k.Brokers(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func logTopic(cfg kafka.Config) string    { return "_kar." + cfg.Mesh + ".log" }
func memoryTopic(cfg kafka.Config) string { return "_kar." + cfg.Mesh + ".topics" }

func refused(t *testing.T, cfg kafka.Config, code runtime.Code, words ...string) {
	t.Helper()
	c, err := kafka.Open(t.Context(), cfg)
	if err == nil {
		c.Close()
	}
	wantCode(t, err, code, words...)
}

// alter sets one setting of the log topic and waits until it is told.
func alter(t *testing.T, a sarama.ClusterAdmin, topic, key, value string) {
	t.Helper()
	entry := map[string]sarama.IncrementalAlterConfigsEntry{key: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}
	if err := a.IncrementalAlterConfig(sarama.TopicResource, topic, entry, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, key+" is "+value, func() bool {
		list, err := a.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{key}}}, sarama.DescribeConfigsOptions{})
		return err == nil && len(list) == 1 && len(list[0].Configs) == 1 && list[0].Configs[0].Value == value
	})
}

// TestMisconfigured is scenario 37: a log topic that could lose records is
// refused by name, at start and while it runs, with the way out.
func TestMisconfigured(t *testing.T) {
	k := broker.Need(t)
	a := admin(t, k)
	cfg := config(t, k)
	c := open(t, cfg)
	for _, wrong := range []struct{ key, value, right string }{
		{"cleanup.policy", "compact", "delete"},
		{"cleanup.policy", "compact,delete", "delete"},
		{"retention.ms", "60000", "-1"},
		{"retention.bytes", "1000000", "-1"},
		{"message.timestamp.type", "CreateTime", "LogAppendTime"},
		{"unclean.leader.election.enable", "true", "false"},
		{"max.message.bytes", "1000000", "9437184"},
		{"min.insync.replicas", "2", "1"},
	} {
		alter(t, a, logTopic(cfg), wrong.key, wrong.value)
		words := []string{logTopic(cfg), wrong.key + "=" + wrong.value, "--add-config " + wrong.key + "=" + wrong.right}
		refused(t, cfg, runtime.CodeKafkaTopic, words...)
		wantCode(t, c.Check(t.Context()), runtime.CodeKafkaTopic, words...)
		alter(t, a, logTopic(cfg), wrong.key, wrong.right)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("after all was set right: %v", err)
	}
	other := cfg
	other.Partitions = 5
	refused(t, other, runtime.CodeKafkaTopic, "4 partitions", "set to 5")
}

// TestFixWorks types in what the error says.
func TestFixWorks(t *testing.T) {
	k := broker.Need(t)
	cfg := config(t, k)
	open(t, cfg).Close()
	alter(t, admin(t, k), logTopic(cfg), "retention.ms", "60000")
	_, err := kafka.Open(t.Context(), cfg)
	if err == nil {
		t.Fatal("a topic that forgets after a minute was accepted")
	}
	_, command, _ := strings.Cut(err.Error(), "kafka-configs.sh ")
	if out, err := k.Tool(t.Context(), "kafka.admin.ConfigCommand", strings.Fields(command)...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	open(t, cfg)
}

func TestRetentionCap(t *testing.T) {
	k := broker.Need(t)
	cfg := config(t, k)
	cfg.RetentionCap = 48 * time.Hour
	if c := open(t, cfg); c.Retention() != 48*time.Hour {
		t.Errorf("retention %v", c.Retention())
	}
	cfg.RetentionCap = 49 * time.Hour
	refused(t, cfg, runtime.CodeKafkaTopic, "retention.ms=172800000")
	cfg.RetentionCap = 0
	refused(t, cfg, runtime.CodeKafkaTopic, "retention.ms=172800000")
	cfg = config(t, k)
	if c := open(t, cfg); c.Retention() != 0 {
		t.Errorf("retention %v of a topic that keeps all", c.Retention())
	}
}

// TestRecreated: a log topic that was deleted and made anew is noticed, and
// nothing goes on silently.
func TestRecreated(t *testing.T) {
	k := broker.Need(t)
	a := admin(t, k)
	setup := func(t *testing.T) (*kafka.Cluster, runtime.Log) {
		cfg := config(t, k)
		c := open(t, cfg)
		l := openLog(t, c, 1)
		if _, _, err := l.Append(t.Context(), [][]byte{{1}, {2}}); err != nil {
			t.Fatal(err)
		}
		if err := a.DeleteTopic(logTopic(cfg)); err != nil {
			t.Fatal(err)
		}
		open(t, cfg) // another gateway, which makes the topic
		return c, l
	}
	t.Run("append", func(t *testing.T) {
		c, l := setup(t)
		var err error
		eventually(t, "a certain answer", func() bool {
			_, _, err = l.Append(t.Context(), [][]byte{{3}})
			return err == nil || !strings.Contains(err.Error(), "unknown")
		})
		wantCode(t, err, runtime.CodeDamaged, "_kar.")
		for _, p := range []uint16{0, 1} {
			_, _, err = openLog(t, c, p).Append(t.Context(), [][]byte{{3}})
			wantCode(t, err, runtime.CodeDamaged)
		}
		wantCode(t, c.Err(), runtime.CodeDamaged)
	})
	t.Run("append again after an unknown outcome", func(t *testing.T) {
		cfg := config(t, k)
		l := openLog(t, open(t, cfg), 1)
		appendAt(t, l, 0, "a")
		if err := a.DeleteTopic(logTopic(cfg)); err != nil {
			t.Fatal(err)
		}
		var unknown *runtime.UnknownError
		eventually(t, "the topic is gone", func() bool {
			_, _, err := l.Append(t.Context(), [][]byte{{3}})
			return errors.As(err, &unknown)
		})
		open(t, cfg)
		var err error
		eventually(t, "a certain answer", func() bool {
			_, _, err = l.Append(t.Context(), [][]byte{{3}})
			return !errors.As(err, &unknown)
		})
		wantCode(t, err, runtime.CodeDamaged, "_kar.")
	})
	t.Run("check", func(t *testing.T) {
		c, l := setup(t)
		wantCode(t, c.Check(t.Context()), runtime.CodeDamaged)
		_, _, err := l.Append(t.Context(), [][]byte{{3}})
		wantCode(t, err, runtime.CodeDamaged)
	})
	t.Run("read", func(t *testing.T) {
		_, l := setup(t)
		wantCode(t, l.Read(t.Context(), 0, func(uint64, []byte) error { return nil }), runtime.CodeDamaged)
	})
}

// A log topic that stays away was deleted: that is said once, by its name.
func TestDeletedLogIsSaid(t *testing.T) {
	k := broker.Need(t)
	cfg := config(t, k)
	cfg.Timeout = time.Second
	var said bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))
	c := open(t, cfg)
	l := openLog(t, c, 1)
	appendAt(t, l, 0, "a")
	if err := c.Deleted(); err != nil {
		t.Fatal(err)
	}
	if err := admin(t, k).DeleteTopic(logTopic(cfg)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "it is said", func() bool {
		_, _, _ = l.Append(t.Context(), [][]byte{{3}})
		return c.Deleted() != nil
	})
	if took := time.Since(began); took < 2*cfg.Timeout {
		t.Errorf("said after %v", took)
	}
	wantCode(t, c.Deleted(), runtime.CodeKafkaTopic, logTopic(cfg))
	_, _, _ = l.Append(t.Context(), [][]byte{{3}})
	if n := strings.Count(said.String(), "is gone"); n != 1 || c.Err() != nil {
		t.Errorf("said %d times, %v", n, c.Err())
	}
}

func TestSecureConnections(t *testing.T) {
	k := broker.Need(t)
	cert, key := k.Client()
	ca := kafka.TLS{Enable: true, CA: k.CA()}
	for name, set := range map[string]func(*kafka.Config){
		"PLAIN":            func(c *kafka.Config) { c.SASL.Mechanism, c.Brokers = "PLAIN", k.Listener(parts.ListenerSASL) },
		"PLAIN by default": func(c *kafka.Config) { c.Brokers = k.Listener(parts.ListenerSASL) },
		"SCRAM-SHA-256": func(c *kafka.Config) {
			c.SASL.Mechanism, c.Brokers = "SCRAM-SHA-256", k.Listener(parts.ListenerSASL)
		},
		"SCRAM-SHA-512 over TLS": func(c *kafka.Config) {
			c.SASL.Mechanism, c.Brokers, c.TLS = "SCRAM-SHA-512", k.Listener(parts.ListenerSASLTLS), ca
		},
		"TLS": func(c *kafka.Config) { c.SASL, c.Brokers, c.TLS = kafka.SASL{}, k.Listener(parts.ListenerTLS), ca },
		"TLS without a look at the certificate": func(c *kafka.Config) {
			c.SASL, c.Brokers, c.TLS = kafka.SASL{}, k.Listener(parts.ListenerTLS), kafka.TLS{Enable: true, SkipVerify: true}
		},
		"client certificate": func(c *kafka.Config) {
			c.SASL, c.Brokers, c.TLS = kafka.SASL{}, k.Listener(parts.ListenerMutualTLS), kafka.TLS{Enable: true, CA: k.CA(), Cert: cert, Key: key}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, k)
			cfg.SASL = kafka.SASL{User: parts.KafkaUser, Password: parts.KafkaPassword}
			set(&cfg)
			c := open(t, cfg)
			appendAt(t, openLog(t, c, 0), 0, "a")
			if _, err := c.Topics().Create(t.Context(), "t"); err != nil {
				t.Error(err)
			}
		})
	}
}

func appendAt(t *testing.T, l runtime.Log, want uint64, record string) {
	t.Helper()
	if first, _, err := l.Append(t.Context(), [][]byte{[]byte(record)}); err != nil || first != want {
		t.Fatalf("append = %d, %v", first, err)
	}
}

// TestToldApart: each way in which Kafka cannot be used has its name.
func TestToldApart(t *testing.T) {
	k := broker.Need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	alice := kafka.SASL{User: parts.KafkaUser, Password: parts.KafkaPassword}
	with := func(mechanism string) kafka.SASL {
		s := alice
		s.Mechanism = mechanism
		return s
	}
	wrong := kafka.SASL{User: parts.KafkaUser, Password: "wrong"}
	wrongScram := wrong
	wrongScram.Mechanism = "SCRAM-SHA-256"
	guest := kafka.SASL{User: parts.KafkaGuest, Password: parts.KafkaPassword}
	ca := kafka.TLS{Enable: true, CA: k.CA()}
	for _, c := range []struct {
		name    string
		brokers []string
		sasl    kafka.SASL
		tls     kafka.TLS
		code    runtime.Code
		words   string
	}{
		{"nobody listens", []string{nobody}, kafka.SASL{}, kafka.TLS{}, runtime.CodeKafkaUnreachable, nobody},
		{"no such host", []string{"no-such-host.invalid:9092"}, kafka.SASL{}, kafka.TLS{}, runtime.CodeKafkaUnreachable, "no-such-host.invalid"},
		{"no answer", []string{silent.Addr().String()}, kafka.SASL{}, kafka.TLS{}, runtime.CodeKafkaUnreachable, silent.Addr().String()},
		{"no answer to TLS", []string{silent.Addr().String()}, kafka.SASL{}, ca, runtime.CodeKafkaUnreachable, silent.Addr().String()},
		{"wrong password", k.Listener(parts.ListenerSASL), wrong, kafka.TLS{}, runtime.CodeKafkaAuth, "PLAIN"},
		{"wrong password with SCRAM", k.Listener(parts.ListenerSASL), wrongScram, kafka.TLS{}, runtime.CodeKafkaAuth, "SCRAM-SHA-256"},
		{"wrong password over TLS", k.Listener(parts.ListenerSASLTLS), wrongScram, ca, runtime.CodeKafkaAuth, "alice"},
		{"wrong mechanism", k.Listener(parts.ListenerSASLTLS), with("PLAIN"), ca, runtime.CodeKafkaAuth, "PLAIN"},
		{"no login", k.Listener(parts.ListenerSASL), kafka.SASL{}, kafka.TLS{}, runtime.CodeKafkaAuth, "wants a login"},
		{"no login over TLS", k.Listener(parts.ListenerSASLTLS), kafka.SASL{}, ca, runtime.CodeKafkaAuth, "wants a login"},
		{"login where there is none", k.Brokers(), alice, kafka.TLS{}, runtime.CodeKafkaAuth, "takes no login"},
		{"plain to TLS", k.Listener(parts.ListenerTLS), kafka.SASL{}, kafka.TLS{}, runtime.CodeKafkaTLS, "TLS is not switched on"},
		{"plain with login to TLS", k.Listener(parts.ListenerSASLTLS), with("SCRAM-SHA-512"), kafka.TLS{}, runtime.CodeKafkaTLS, "TLS is not switched on"},
		{"TLS to plain", k.Brokers(), kafka.SASL{}, ca, runtime.CodeKafkaTLS, "without TLS"},
		{"TLS with login to plain", k.Listener(parts.ListenerSASL), alice, ca, runtime.CodeKafkaTLS, "without TLS"},
		{"unknown authority", k.Listener(parts.ListenerTLS), kafka.SASL{}, kafka.TLS{Enable: true}, runtime.CodeKafkaTLS, "certificate"},
		{"no client certificate", k.Listener(parts.ListenerMutualTLS), kafka.SASL{}, ca, runtime.CodeKafkaTLS, "client certificate"},
		{"no permission", k.Listener(parts.ListenerSASL), guest, kafka.TLS{}, runtime.CodeKafkaPermission, "guest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t, k)
			cfg.Brokers, cfg.SASL, cfg.TLS, cfg.Timeout = c.brokers, c.sasl, c.tls, 2*time.Second
			if strings.HasPrefix(c.name, "no answer") {
				cfg.Timeout = 500 * time.Millisecond
			}
			began := time.Now()
			refused(t, cfg, c.code, c.words)
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("it took %v to find out", d)
			}
		})
	}
}

// TestTooOld speaks to a broker that knows the requests of Kafka 2.4.
func TestTooOld(t *testing.T) {
	old := sarama.NewMockBroker(t, 1)
	defer old.Close()
	old.SetHandlerByMap(map[string]sarama.MockResponse{
		"ApiVersionsRequest": sarama.NewMockApiVersionsResponse(t).SetApiKeys([]sarama.ApiVersionsResponseKey{
			{ApiKey: 0, MaxVersion: 8}, {ApiKey: 1, MaxVersion: 11}, {ApiKey: 2, MaxVersion: 5}, {ApiKey: 3, MaxVersion: 9}, {ApiKey: 18, MaxVersion: 3},
			{ApiKey: 19, MaxVersion: 5}, {ApiKey: 20, MaxVersion: 4}, {ApiKey: 21, MaxVersion: 1}, {ApiKey: 32, MaxVersion: 2},
		}),
	})
	refused(t, kafka.Config{Brokers: []string{old.Addr()}, Mesh: "m", Partitions: 1, Timeout: 2 * time.Second}, runtime.CodeKafkaTooOld, "Metadata")
}

func TestBadSettings(t *testing.T) {
	good := kafka.Config{Brokers: []string{"127.0.0.1:1"}, Mesh: "m", Partitions: 1, Timeout: time.Second}
	refused(t, good, runtime.CodeKafkaUnreachable)
	for name, spoil := range map[string]func(*kafka.Config){
		"no brokers":      func(c *kafka.Config) { c.Brokers = []string{" "} },
		"no mesh":         func(c *kafka.Config) { c.Mesh = "" },
		"a dot":           func(c *kafka.Config) { c.Mesh = ".b" },
		"a slash":         func(c *kafka.Config) { c.Mesh = "a/b" },
		"no partitions":   func(c *kafka.Config) { c.Partitions = 0 },
		"version":         func(c *kafka.Config) { c.Version = "new" },
		"mechanism":       func(c *kafka.Config) { c.SASL.Mechanism, c.SASL.Password = "GSSAPI", "p" },
		"no password":     func(c *kafka.Config) { c.SASL.Mechanism = "PLAIN" },
		"no certificate":  func(c *kafka.Config) { c.TLS = kafka.TLS{Enable: true, CA: []byte("?")} },
		"half a pair":     func(c *kafka.Config) { c.TLS = kafka.TLS{Enable: true, Cert: []byte("?")} },
		"our own setting": func(c *kafka.Config) { c.TopicConfig = map[string]string{"cleanup.policy": "compact"} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			spoil(&cfg)
			refused(t, cfg, runtime.CodeBadConfig)
		})
	}
}

// TestMeshNames: two meshes on one Kafka share nothing, and where Kafka could
// mix their names up the second is refused.
func TestMeshNames(t *testing.T) {
	cfg := config(t, broker.Need(t))
	one := openLog(t, open(t, cfg), 0)
	appendAt(t, one, 0, "a")
	longer := cfg
	longer.Mesh += ".log"
	appendAt(t, openLog(t, open(t, longer), 0), 0, "a")
	longer.Mesh = cfg.Mesh + "_log"
	refused(t, longer, runtime.CodeKafkaTopic, longer.Mesh)
	appendAt(t, one, 1, "b")
}
