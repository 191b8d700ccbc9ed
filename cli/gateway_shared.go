package cli

import (
	"encoding/base64"
	"os"
	"strings"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
	"github.com/karmesh/kar/runtime/redis"
)

// sharedConfig reads which mesh the gateway serves; nil when no Kafka is named.
func (p *program) sharedConfig(c *config) (*sharedConfig, error) {
	brokers := c.list("kafka-brokers")
	switch {
	case len(brokers) == 0 && !hasRedis(c):
		return nil, nil
	case len(brokers) == 0:
		return nil, runtime.Errorf(runtime.CodeBadConfig, "Redis is named but Kafka is not: a shared mesh needs --kafka-brokers (KAFKA_BROKERS) too")
	case !hasRedis(c):
		return nil, runtime.Errorf(runtime.CodeBadConfig, "Kafka is named but Redis is not: a shared mesh needs --redis-host (REDIS_HOST) too, or sentinels, or a cluster")
	}
	access, err := accessOf(c)
	if err != nil {
		return nil, err
	}
	s := &sharedConfig{Mesh: c.text("mesh"), Advertise: strings.TrimSuffix(c.text("advertise"), "/"), Lease: c.span("gateway-lease")}
	if s.Mesh == "" {
		s.Mesh = "kar"
	}
	if s.Advertise != "" && !strings.HasPrefix(s.Advertise, "http://") && !strings.HasPrefix(s.Advertise, "https://") {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "--advertise is %q, but must be http://host:port or https://host:port", s.Advertise)
	}
	if s.PeerTLS, err = access.TLS(); err != nil {
		return nil, err
	}
	if s.Kafka, err = kafkaConfig(c, brokers); err != nil {
		return nil, err
	}
	if s.Redis, err = redisConfig(c); err != nil {
		return nil, err
	}
	if c.err == nil && s.Lease <= 0 {
		c.refuse("gateway-lease", "positive")
	}
	return s, c.err
}

func kafkaConfig(c *config, brokers []string) (kafka.Config, error) {
	k := kafka.Config{
		Brokers: brokers, Replication: c.integer("kafka-replication"), RetentionCap: c.span("kafka-retention-cap"),
		TLS: kafka.TLS{Enable: c.boolean("kafka-enable-tls"), SkipVerify: c.boolean("kafka-tls-skip-verify")},
	}
	if password := c.text("kafka-password"); password != "" {
		k.SASL = kafka.SASL{Mechanism: c.text("kafka-sasl-mechanism"), User: c.text("kafka-username"), Password: password}
	}
	for name, to := range map[string]*[]byte{"kafka-ca-cert": &k.TLS.CA, "kafka-cert": &k.TLS.Cert, "kafka-key": &k.TLS.Key} {
		var err error
		if *to, err = c.pem(name); err != nil {
			return k, err
		}
	}
	for part := range strings.FieldsFuncSeq(c.text("kafka-topic-config"), func(r rune) bool { return r == ',' || r == ';' }) {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			c.refuse("kafka-topic-config", "key=value, separated by commas")
			break
		}
		if k.TopicConfig == nil {
			k.TopicConfig = map[string]string{}
		}
		k.TopicConfig[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return k, nil
}

func redisConfig(c *config) (redis.Config, error) {
	r := redis.Config{
		User: c.text("redis-user"), Password: c.text("redis-password"),
		TLS: c.boolean("redis-enable-tls"), TLSSkipVerify: c.boolean("redis-tls-skip-verify"), SafeAfter: c.span("redis-safe-after"),
	}
	switch {
	case c.text("redis-cluster") != "":
		r.Cluster = c.list("redis-cluster")
	case c.text("redis-sentinels") != "":
		r.Sentinels, r.Master = c.list("redis-sentinels"), c.text("redis-master")
	default:
		r.Host, r.Port = c.text("redis-host"), c.port("redis-port")
	}
	var err error
	r.CA, err = c.pem("redis-ca-cert")
	return r, err
}

// pem reads a certificate or key: PEM, PEM in base64 (as KAR 1.x took it), or a
// file with PEM.
func (c *config) pem(name string) ([]byte, error) {
	value := strings.TrimSpace(c.text(name))
	if value == "" || strings.Contains(value, "-----BEGIN") {
		return []byte(value), nil
	}
	if b, err := base64.StdEncoding.DecodeString(value); err == nil && strings.Contains(string(b), "-----BEGIN") {
		return b, nil
	}
	b, err := os.ReadFile(value)
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "--%s is neither PEM nor PEM in base64, and no file that can be read", name)
	}
	return b, nil
}
