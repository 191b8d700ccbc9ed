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
		{name: "state-dir", env: []string{"KAR_STATE_DIR"}, use: "folder of all state (default $XDG_STATE_HOME/kar or ~/.local/state/kar)"},
		{name: "body-limit", kind: integer, def: "4194304", env: []string{"KAR_BODY_LIMIT"}, use: "largest body of a request or result, in bytes"},
		{name: "lease", kind: span, def: "6s", env: []string{"KAR_LEASE"}, use: "how long a component may act without a sign of life to the gateway"},
		{name: "idle-stop", kind: span, def: "60s", env: []string{"KAR_IDLE_STOP"}, use: "in the background: stop this long after the last client when no work is left, 0 for never"},
		{name: "id-window", kind: span, def: "10m", env: []string{"KAR_ID_WINDOW"}, use: "how long the id of an ended request is remembered"},
		{name: "result-retention", kind: span, def: "24h", env: []string{"KAR_RESULT_RETENTION"}, use: "how long outcomes of promises and keyed requests are kept"},
		{name: "max-attempts", kind: integer, def: "0", env: []string{"KAR_MAX_ATTEMPTS"}, use: "attempts of a request before it ends as an error, 0 for no limit"},
	}
}

// legacySettings belong to the mesh on Kafka and Redis of KAR 1.x; local mode
// reads them and does nothing with them.
func legacySettings() []setting {
	list := []setting{
		{name: "kafka-brokers", env: []string{"KAFKA_BROKERS"}},
		{name: "kafka-enable-tls", kind: boolean, def: "false", env: []string{"KAFKA_ENABLE_TLS"}},
		{name: "kafka-username", def: "token", env: []string{"KAFKA_USERNAME"}},
		{name: "kafka-password", env: []string{"KAFKA_PASSWORD"}},
		{name: "kafka-version", def: "2.8.1", env: []string{"KAFKA_VERSION"}},
		{name: "kafka-tls-skip-verify", kind: boolean, def: "false", env: []string{"KAFKA_TLS_SKIP_VERIFY"}},
		{name: "kafka-topic-config"},
		{name: "redis-host", env: []string{"REDIS_HOST"}},
		{name: "redis-port", kind: integer, def: "6379", env: []string{"REDIS_PORT"}},
		{name: "redis-enable-tls", kind: boolean, def: "false", env: []string{"REDIS_ENABLE_TLS"}},
		{name: "redis-user", env: []string{"REDIS_USER"}},
		{name: "redis-password", env: []string{"REDIS_PASSWORD"}},
		{name: "redis-tls-skip-verify", kind: boolean, def: "false", env: []string{"REDIS_TLS_SKIP_VERIFY"}},
		{name: "redis-ca-cert", env: []string{"REDIS_CA"}, dir: "redis_ca"},
		{name: "redis-slow-op-threshold", kind: span, def: "1s"},
		{name: "placement-cache", kind: boolean, def: "true"},
		{name: "debug", kind: boolean, def: "false"},
		{name: "request-retry-limit", kind: span, def: "-1s", env: []string{"KAR_REQUEST_RETRY_LIMIT"},
			use: "given to the component as KAR_REQUEST_TIMEOUT; calls themselves are not limited by it"},
	}
	for i := range list {
		list[i].legacy = true
		if list[i].use == "" {
			list[i].use = "accepted, without effect in local mode"
		}
	}
	return list
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
