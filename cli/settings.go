package cli

import (
	"strings"

	"github.com/spf13/pflag"
)

// A setting is one thing that can be said by flag, environment, configuration
// file or -config_dir. This file is the whole list; docs/configuration.md
// shows it to users, and a test compares the two.
type setting struct {
	name  string   // long flag and key in the configuration file
	short string   // one letter, or ""
	kind  kind     // what values look like
	def   string   // default
	env   []string // environment variables, first found wins
	dir   string   // file name in -config_dir, "" for none
	use   string   // one line for help
	// legacy settings of KAR 1.x are accepted everywhere and have no effect here.
	legacy bool
}

type kind int

const (
	text kind = iota
	boolean
	integer
	span // a Go duration: 90s, 2m
)

// sections of settings, by the commands that take them.
func commonSettings() []setting {
	return []setting{
		{name: "app", env: []string{"KAR_APP"}, use: "name of the application"},
		{name: "gateway", env: []string{"KAR_GATEWAY"}, use: "gateway to use, http://host:port (several, separated by commas, are tried in turn) or unix:///path (default: this user's background gateway)"},
		{name: "token", env: []string{"KAR_TOKEN"}, use: "token that a gateway with a secret asks for over TCP; better in the environment or a file than on the command line"},
		{name: "ca", env: []string{"KAR_CA"}, use: "file with the certificates, in PEM, of who may sign a gateway's, or their text (default: those that this machine trusts)"},
		{name: "verbose", short: "v", def: "error", env: []string{"KAR_VERBOSE"}, use: "log level: fatal, error, warning, info, debug or a number"},
		{name: "config-dir", env: []string{"KAR_CONFIG_DIR"}, use: "folder with one file for each setting"},
	}
}

func limitSettings() []setting {
	return []setting{
		{name: "missing-component-timeout", kind: span, def: "2m", env: []string{"KAR_MISSING_COMPONENT_TIMEOUT"}, use: "how long a call waits for a component before its first start, 0 for ever"},
		{name: "actor-busy-timeout", kind: span, def: "2m", env: []string{"KAR_ACTOR_BUSY_TIMEOUT"}, use: "how long a call waits in an actor's queue before its first start, 0 for ever"},
	}
}

func runSettings() []setting {
	return []setting{
		{name: "service", env: []string{"KAR_SERVICE"}, use: "the service that the component offers"},
		{name: "actors", env: []string{"KAR_ACTORS"}, use: "the actor types that it offers, separated by commas"},
		{name: "app-port", kind: integer, def: "8080", env: []string{"KAR_APP_PORT"}, use: "port on which the component listens (a free one is picked when 8080 is taken and none was asked for)"},
		{name: "runtime-port", kind: integer, def: "0", env: []string{"KAR_RUNTIME_PORT"}, use: "port of the API for the component, 0 for a free one"},
		{name: "grace", kind: span, def: "10s", env: []string{"KAR_GRACE"}, use: "how long running work may take to end after SIGINT, SIGTERM or SIGHUP"},
		{name: "actor-collector-interval", kind: span, def: "10s", env: []string{"KAR_ACTOR_COLLECTOR_INTERVAL"}, use: "how long an actor stays active without work, 0 for ever"},
		{name: "cancel", kind: boolean, def: "false", env: []string{"KAR_CANCEL"}, use: "withdraw calls that have not started when their caller's process is gone"},
		{name: "h2c", kind: boolean, def: "false", env: []string{"KAR_H2C"}, use: "speak HTTP/2 without TLS to the component"},
		{name: "kubernetes-mode", kind: boolean, def: "false", use: "listen on all interfaces"},
		{name: "sidecar-mode", kind: boolean, def: "false", use: "accepted, without effect", legacy: true},
		{name: "hostname", def: "localhost", use: "accepted, without effect", legacy: true},
		{name: "actor-reminder-interval", kind: span, def: "100ms", use: "accepted, without effect: reminders are fired by the gateway when they are due", legacy: true},
		{name: "actor-reminder-acceptable-delay", kind: span, def: "3s", use: "accepted, without effect", legacy: true},
	}
}

func gatewaySettings() []setting {
	return []setting{
		{name: "listen", env: []string{"KAR_LISTEN"}, use: "TCP address for clients and components (default 127.0.0.1:8090 in the foreground, none in the background)"},
		{name: "mesh-secret", env: []string{"KAR_MESH_SECRET"}, use: "secret of the mesh from which tokens are made, 16 bytes or more; several, separated by commas, while it is changed"},
		{name: "insecure", kind: boolean, def: "false", env: []string{"KAR_INSECURE"}, use: "let everybody who can reach --listen do everything, on all addresses, when there is no secret"},
		{name: "tls-cert", env: []string{"KAR_TLS_CERT"}, use: "file with the certificate of --listen in PEM, read again when it changes"},
		{name: "tls-key", env: []string{"KAR_TLS_KEY"}, use: "file with the key of the certificate in PEM"},
		{name: "socket", env: []string{"KAR_SOCKET"}, use: "Unix socket (default: in $XDG_RUNTIME_DIR/kar or the state folder)"},
		{name: "partitions", kind: integer, def: "0", env: []string{"KAR_PARTITIONS"}, use: "partitions of a new mesh (0: 64, or 1 in local mode); fixed from then on"},
		{name: "advertise", env: []string{"KAR_ADVERTISE"}, use: "address at which other gateways and components reach this one, http://host:port (default: the one it listens on)"},
		{name: "trim-at", kind: integer, def: "0", env: []string{"KAR_TRIM_AT"}, use: "bytes above which the log of a partition is trimmed (0: 16 MiB, in a shared mesh 2 MiB); what is kept also heals a Redis that has lost something"},
		{name: "gateway-lease", kind: span, def: "2s", env: []string{"KAR_GATEWAY_LEASE"}, use: "how long a gateway of a shared mesh may be silent before others take over; the same on all"},
		{name: "state-dir", env: []string{"KAR_STATE_DIR"}, use: "folder of all state (default $XDG_STATE_HOME/kar or ~/.local/state/kar)"},
		{name: "body-limit", kind: integer, def: "4194304", env: []string{"KAR_BODY_LIMIT"}, use: "largest body of a request or result, in bytes; at most 192 MiB, and the same for all gateways of a mesh where it is above 48 MiB"},
		{name: "lease", kind: span, def: "6s", env: []string{"KAR_LEASE"}, use: "how long a component may act without a sign of life to the gateway"},
		{name: "idle-stop", kind: span, def: "60s", env: []string{"KAR_IDLE_STOP"}, use: "in the background: stop this long after the last client when no work is left, 0 for never"},
		{name: "id-window", kind: span, def: "10m", env: []string{"KAR_ID_WINDOW"}, use: "how long the id of an ended request is remembered"},
		{name: "result-retention", kind: span, def: "24h", env: []string{"KAR_RESULT_RETENTION"}, use: "how long outcomes of promises and keyed requests are kept"},
		{name: "max-attempts", kind: integer, def: "0", env: []string{"KAR_MAX_ATTEMPTS"}, use: "attempts of a request before it ends as an error, 0 for no limit"},
	}
}

// backendSettings say which mesh on which Kafka and Redis a gateway serves.
// Those of KAR 1.x keep their names. Components and commands do not need them;
// when they have them and no gateway is named, they use a background gateway
// on that Kafka and Redis.
func backendSettings() []setting {
	return []setting{
		{name: "mesh", env: []string{"KAR_MESH"}, use: "name of the mesh on this Kafka and Redis (default kar; for components of KAR 1.x kar_APP)"},
		{name: "kafka-brokers", env: []string{"KAFKA_BROKERS"}, use: "Kafka brokers, host:port separated by commas; makes the gateway one of a shared mesh"},
		{name: "kafka-enable-tls", kind: boolean, def: "false", env: []string{"KAFKA_ENABLE_TLS"}, use: "TLS to Kafka"},
		{name: "kafka-username", def: "token", env: []string{"KAFKA_USERNAME"}, use: "user for Kafka"},
		{name: "kafka-password", env: []string{"KAFKA_PASSWORD"}, use: "password for Kafka; SASL is used when there is one"},
		{name: "kafka-sasl-mechanism", def: "PLAIN", env: []string{"KAFKA_SASL_MECHANISM"}, use: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"},
		{name: "kafka-ca-cert", env: []string{"KAFKA_CA"}, dir: "kafka_ca", use: "certificates by which Kafka is known: a file, PEM, or PEM in base64"},
		{name: "kafka-cert", env: []string{"KAFKA_CERT"}, use: "client certificate for Kafka: a file, PEM, or PEM in base64"},
		{name: "kafka-key", env: []string{"KAFKA_KEY"}, use: "its key"},
		{name: "kafka-tls-skip-verify", kind: boolean, def: "false", env: []string{"KAFKA_TLS_SKIP_VERIFY"}, use: "do not check Kafka's certificate"},
		{name: "kafka-topic-config", env: []string{"KAFKA_TOPIC_CONFIG"}, use: "further settings of the topics that are created, key=value separated by commas or semicolons"},
		{name: "kafka-replication", kind: integer, def: "0", env: []string{"KAFKA_REPLICATION"}, use: "copies of the topics that are created (0: 3, or as many as there are brokers)"},
		{name: "kafka-retention-cap", kind: span, def: "0", env: []string{"KAFKA_RETENTION_CAP"}, use: "for a Kafka that keeps nothing for ever: its longest retention, which is the longest outage that the mesh survives"},
		{name: "redis-host", env: []string{"REDIS_HOST"}, use: "Redis server"},
		{name: "redis-port", kind: integer, def: "6379", env: []string{"REDIS_PORT"}, use: "its port"},
		{name: "redis-enable-tls", kind: boolean, def: "false", env: []string{"REDIS_ENABLE_TLS"}, use: "TLS to Redis"},
		{name: "redis-user", env: []string{"REDIS_USER"}, use: "ACL user"},
		{name: "redis-password", env: []string{"REDIS_PASSWORD"}, use: "password for Redis"},
		{name: "redis-tls-skip-verify", kind: boolean, def: "false", env: []string{"REDIS_TLS_SKIP_VERIFY"}, use: "do not check Redis's certificate"},
		{name: "redis-ca-cert", env: []string{"REDIS_CA"}, dir: "redis_ca", use: "certificates by which Redis is known: a file, PEM, or PEM in base64"},
		{name: "redis-sentinels", env: []string{"REDIS_SENTINELS"}, use: "sentinels, host:port separated by commas, instead of redis-host"},
		{name: "redis-master", def: "mymaster", env: []string{"REDIS_MASTER"}, use: "name of the master that the sentinels watch"},
		{name: "redis-cluster", env: []string{"REDIS_CLUSTER"}, use: "addresses of a Redis cluster, host:port separated by commas, instead of redis-host"},
		{name: "redis-safe-after", kind: span, def: "10m", env: []string{"REDIS_SAFE_AFTER"}, use: "after which time Redis is trusted to hold a write even over a failover, where it cannot say so itself"},
	}
}

// legacySettings of KAR 1.x are accepted and have no effect here.
func legacySettings() []setting {
	list := []setting{
		{name: "kafka-version", def: "2.8.1", env: []string{"KAFKA_VERSION"}},
		{name: "redis-slow-op-threshold", kind: span, def: "1s"},
		{name: "placement-cache", kind: boolean, def: "true"},
		{name: "debug", kind: boolean, def: "false"},
		{name: "request-retry-limit", kind: span, def: "-1s", env: []string{"KAR_REQUEST_RETRY_LIMIT"},
			use: "given to the component as KAR_REQUEST_TIMEOUT; calls themselves are not limited by it"},
	}
	for i := range list {
		list[i].legacy = true
		if list[i].use == "" {
			list[i].use = "accepted, without effect"
		}
	}
	for _, s := range backendSettings() { // not shown in the help of commands that need no Kafka
		s.legacy = true
		list = append(list, s)
	}
	return list
}

// withoutEffect are the settings that only old command lines have.
func withoutEffect() []setting {
	list := legacySettings()
	return list[:len(list)-len(backendSettings())]
}

// dirName is the file of the setting in -config_dir: the name as KAR 1.x wrote it.
func (s setting) dirName() string {
	if s.dir != "" {
		return s.dir
	}
	return strings.ReplaceAll(s.name, "-", "_")
}

// addFlags defines the flags. Legacy ones are left out of help texts, not of parsing.
func addFlags(flags *pflag.FlagSet, groups ...[]setting) {
	for _, group := range groups {
		for _, s := range group {
			if s.kind == boolean {
				flags.BoolP(s.name, s.short, s.def == "true", s.use)
			} else {
				flags.StringP(s.name, s.short, s.def, s.use)
			}
			if s.legacy {
				_ = flags.MarkHidden(s.name)
			}
		}
	}
}
