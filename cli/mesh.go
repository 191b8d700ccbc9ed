package cli

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/karmesh/kar/cli/background"
	"github.com/karmesh/kar/runtime"
)

// Commands that are told a Kafka and a Redis and no gateway, as KAR 1.x was, use
// a background gateway of this user on them: one for each mesh, and each
// application is a mesh of its own unless one is named.

// namesMesh tells whether the settings name a Kafka and a Redis. A Redis alone
// may be the application's own, or the source of an import.
func namesMesh(c *config) (bool, error) {
	switch {
	case len(c.list("kafka-brokers")) == 0:
		return false, nil
	case !hasRedis(c):
		return false, runtime.Errorf(runtime.CodeBadConfig, "KAFKA_BROKERS is set but REDIS_HOST is not: a mesh needs both; name a gateway instead (KAR_GATEWAY), or unset KAFKA_BROKERS for local mode")
	}
	return true, nil
}

func hasRedis(c *config) bool {
	return c.text("redis-host") != "" || c.text("redis-sentinels") != "" || c.text("redis-cluster") != ""
}

// meshName is the mesh of an application that names none.
func meshName(c *config) string {
	name := c.text("mesh")
	if name == "" {
		name = "kar_" + c.app()
	}
	if plain := regexp.MustCompile(`[^A-Za-z0-9_-]`); plain.MatchString(name) || len(name) > 100 {
		// What Kafka does not take in a name: the sum keeps two applications apart.
		sum := sha256.Sum256([]byte(name))
		name = plain.ReplaceAllString(name, "-")
		name = name[:min(len(name), 80)] + "-" + hex.EncodeToString(sum[:5])
	}
	return name
}

// meshPlace is where this user's background gateway of a mesh lives: in the
// state folder, apart from that of local mode. Kafka and Redis are part of the
// name, as two may carry meshes of one name.
func meshPlace(c *config, state background.Place, getenv func(string) string) (background.Place, error) {
	name := meshName(c)
	if c.err != nil {
		return background.Place{}, c.err
	}
	var where []string
	for _, setting := range []string{"kafka-brokers", "redis-sentinels", "redis-cluster"} {
		list := c.list(setting)
		slices.Sort(list)
		where = append(where, strings.Join(slices.Compact(list), ","))
	}
	where = append(where, c.text("redis-host"), c.text("redis-port"), c.text("redis-master"), name)
	sum := sha256.Sum256([]byte(strings.Join(where, "\x00")))
	return background.At(filepath.Join(state.Dir, "mesh", name+"-"+hex.EncodeToString(sum[:6])), getenv)
}

// meshEnvironment hands the settings to the background gateway. Not as
// arguments, which every user of the machine can read.
func meshEnvironment(c *config) []string {
	env := []string{"KAR_MESH=" + meshName(c)}
	if dir := c.text("config-dir"); dir != "" {
		env = append(env, "KAR_CONFIG_DIR="+absolute(dir)) // for what this command does not know, mesh_secret for one
	}
	for _, s := range slices.Concat(commonSettings(), backendSettings()) {
		switch s.name {
		case "mesh", "config-dir", "app", "gateway", "token", "verbose": // said above, or not the gateway's
			continue
		case "kafka-topic-config": // KAR 1.x's flag is about a topic that is no more
			continue
		}
		if !c.given(s.name) || len(s.env) == 0 {
			continue
		}
		value := c.text(s.name)
		switch s.name {
		case "ca", "kafka-ca-cert", "kafka-cert", "kafka-key", "redis-ca-cert":
			if isFile(value) {
				value = absolute(value) // the gateway works in another folder
			}
		}
		env = append(env, s.env[0]+"="+value)
	}
	return env
}

// isFile tells a file from what would be in it; see config.pem.
func isFile(value string) bool {
	if value == "" || strings.Contains(value, "-----BEGIN") {
		return false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	return err != nil || !strings.Contains(string(b), "-----BEGIN")
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// backgroundGateway is the gateway of this user that the command uses.
func (p *program) backgroundGateway(c *config) (background.Ensurer, error) {
	e := background.Ensurer{Version: p.version}
	var err error
	if e.Place, err = background.Locate(p.getenv); err != nil {
		return e, err
	}
	shared, err := namesMesh(c)
	if err != nil || !shared {
		return e, err
	}
	if e.Place, err = meshPlace(c, e.Place, p.getenv); err == nil {
		e.Env = meshEnvironment(c)
	}
	return e, err
}
