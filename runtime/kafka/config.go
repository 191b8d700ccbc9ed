package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// Config says which Kafka and which mesh on it. Brokers, Mesh and Partitions
// are required.
type Config struct {
	// Brokers are addresses to begin with, host:port.
	Brokers []string
	// Mesh is part of the name of the mesh's own topics: letters, digits,
	// hyphens, underscores and, but for the first, dots. Kafka tells no dot from
	// an underscore: it refuses the second of two such names.
	Mesh       string
	Partitions int // of the log; an existing log must have as many
	// Version is accepted because KAR 1.x asked for it, such as 2.8.1; brokers say
	// themselves what they speak.
	Version string
	SASL    SASL
	TLS     TLS
	// Replication is the number of copies of the topics that KAR creates; 0 is 3,
	// or the number of brokers when there are fewer.
	Replication int
	// TopicConfig is added to the settings of the log topic when KAR creates it.
	TopicConfig map[string]string
	// RetentionCap permits a log topic that forgets records after this time,
	// for services of Kafka that allow no other; 0 permits none. It is the
	// longest outage that the mesh survives.
	RetentionCap time.Duration
	// BodyLimit is the size in bytes of the largest request or result that the
	// topics must be able to take; 0 is 4 MiB.
	BodyLimit int
	// TopicPrefix is put before the names of event topics. It is empty where
	// other programs share topics with the mesh under the same names.
	TopicPrefix string
	// Timeout is how long a broker may take to accept a connection, or to answer
	// before the outcome counts as unknown; 0 is 10 s.
	Timeout time.Duration
	// Connections is the number of requests with appends that are in flight to a
	// broker at a time; each takes along all that waits. 0 is 2. (Late ones do
	// not count.)
	Connections int
	// ThrottleLimit is the longest time that anything waits because Kafka throttles
	// this client by a quota; 0 is a tenth of Timeout.
	ThrottleLimit time.Duration
	ClientID      string // "" is kar
	Logger        *slog.Logger
}

// SASL is how to log in; without a mechanism nobody does.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; "" is PLAIN when there is a password
	User      string // "" is token, as in KAR 1.x
	Password  string
}

// TLS is how connections are protected.
type TLS struct {
	Enable     bool
	CA         []byte // PEM, instead of the system's authorities
	SkipVerify bool
	Cert, Key  []byte // PEM, of this client
}

// The reserved prefix of topic names; the mesh's own topics, and event topics
// with names that Kafka does not take, begin with it.
const reserved = "_kar."

func (c *Config) logTopic() string     { return reserved + c.Mesh + ".log" }
func (c *Config) offsetsTopic() string { return reserved + c.Mesh + ".topics" }

func bad(format string, args ...any) error {
	return runtime.Errorf(runtime.CodeBadConfig, format, args...)
}

// complete checks the settings and fills in what was left out.
func (c *Config) complete() error {
	c.Brokers = slices.DeleteFunc(slices.Clone(c.Brokers), func(s string) bool { return strings.TrimSpace(s) == "" })
	for i, b := range c.Brokers {
		b = strings.TrimSpace(b)
		if !strings.Contains(b, ":") {
			b += ":9092"
		}
		c.Brokers[i] = b
	}
	if len(c.Brokers) == 0 {
		return bad("no address of a Kafka broker is given")
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`).MatchString(c.Mesh) {
		return bad("the name of the mesh is %.120q; it takes 1 to 100 letters, digits, hyphens, underscores and dots, and does not begin with a dot", c.Mesh)
	}
	if c.Partitions < 1 || c.Partitions > 1<<16 {
		return bad("%d partitions: it takes 1 to 65536", c.Partitions)
	}
	if c.Version != "" {
		if _, err := sarama.ParseKafkaVersion(c.Version); err != nil {
			return bad("the Kafka version is %.40q; write it like 2.8.1", c.Version)
		}
	}
	if c.Replication < 0 || c.RetentionCap < 0 || c.BodyLimit < 0 || c.Timeout < 0 || c.Connections < 0 || c.ThrottleLimit < 0 {
		return bad("replication, retention cap, body limit, timeout, connections and throttle limit must not be negative")
	}
	for _, k := range slices.Sorted(maps.Keys(c.TopicConfig)) {
		if _, ours := c.wanted(0)[k]; ours {
			return bad("the topic setting %s belongs to KAR and cannot be given", k)
		}
	}
	if c.BodyLimit == 0 {
		c.BodyLimit = 4 << 20
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.ThrottleLimit == 0 {
		c.ThrottleLimit = c.Timeout / 10
	}
	if c.Connections == 0 {
		c.Connections = 2
	}
	if c.ClientID == "" {
		c.ClientID = "kar"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SASL.Mechanism == "" && c.SASL.Password != "" {
		c.SASL.Mechanism = sarama.SASLTypePlaintext
	}
	if c.SASL.Mechanism != "" && c.SASL.User == "" {
		c.SASL.User = "token"
	}
	return nil
}

// maxMessage is max.message.bytes of the topics: one record can hold a result
// and the request that follows it in a chain, with their headers.
func (c *Config) maxMessage() int { return 2*c.BodyLimit + min(1<<20, c.BodyLimit/2+16<<10) }

// client is the settings in sarama's words.
func (c *Config) client() (*sarama.Config, error) {
	s := sarama.NewConfig()
	s.ClientID = c.ClientID
	s.Version = sarama.MaxVersion
	s.MetricRegistry = noMetrics{} // dial gives each connection its own
	s.Net.MaxOpenRequests = 1 << 10
	s.Net.DialTimeout, s.Net.ReadTimeout, s.Net.WriteTimeout = c.Timeout, c.Timeout, c.Timeout
	if c.TLS.Enable {
		t, err := c.TLS.config()
		if err != nil {
			return nil, err
		}
		s.Net.TLS.Enable, s.Net.TLS.Config = true, t
	}
	if c.SASL.Mechanism != "" {
		s.Net.SASL.Enable, s.Net.SASL.Handshake, s.Net.SASL.Version = true, true, sarama.SASLHandshakeV1
		s.Net.SASL.User, s.Net.SASL.Password = c.SASL.User, c.SASL.Password
		s.Net.SASL.Mechanism = sarama.SASLMechanism(strings.ToUpper(c.SASL.Mechanism))
		switch s.Net.SASL.Mechanism {
		case sarama.SASLTypePlaintext:
		case sarama.SASLTypeSCRAMSHA256, sarama.SASLTypeSCRAMSHA512:
			s.Net.SASL.SCRAMClientGeneratorFunc = scramClient(s.Net.SASL.Mechanism)
		default:
			return nil, bad("the SASL mechanism is %.40q; PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are known", c.SASL.Mechanism)
		}
		if c.SASL.Password == "" {
			return nil, bad("%s needs a password", s.Net.SASL.Mechanism)
		}
	}
	if err := s.Validate(); err != nil {
		return nil, bad("the settings of Kafka are refused: %v", err)
	}
	return s, nil
}

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: t.SkipVerify, MinVersion: tls.VersionTLS12}
	if len(t.CA) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, bad("the certificate of Kafka's authority is not in PEM")
		}
	}
	if len(t.Cert) > 0 || len(t.Key) > 0 {
		pair, err := tls.X509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, bad("the client certificate for Kafka and its key cannot be used: %v", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// wanted are the settings of the log topic that KAR depends on.
func (c *Config) wanted(copies int) map[string]string {
	retention := "-1"
	if c.RetentionCap > 0 {
		retention = fmt.Sprint(c.RetentionCap.Milliseconds())
	}
	inSync := "1"
	if copies >= 3 {
		inSync = "2"
	}
	return map[string]string{
		"cleanup.policy":                 "delete",
		"retention.ms":                   retention,
		"retention.bytes":                "-1",
		"message.timestamp.type":         "LogAppendTime",
		"unclean.leader.election.enable": "false",
		"min.insync.replicas":            inSync,
		"max.message.bytes":              fmt.Sprint(c.maxMessage()),
	}
}
