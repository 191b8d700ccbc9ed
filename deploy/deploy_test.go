// Package deploy_test keeps the files that people deploy from true to the tree.
package deploy_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type composeFile struct {
	Name     string
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Image string
	Build struct {
		Context, Dockerfile, Target string
	}
	Command     []string
	EnvFile     string `yaml:"env_file"`
	Environment map[string]string
	Volumes     []string
	Ports       []string
	DependsOn   yaml.Node `yaml:"depends_on"`
}

func compose(t *testing.T) (c composeFile) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// gateways are the services that run one.
func (c composeFile) gateways() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		if c.Services[name].Build.Target == "gateway" {
			names = append(names, name)
		}
	}
	return names
}

func TestComposeRefersToWhatIsThere(t *testing.T) {
	c := compose(t)
	settings := read(t, "../cli/settings.go")
	dockerfile := read(t, "Dockerfile")
	for name, s := range c.Services {
		if b := s.Build; b.Context != "" {
			if _, err := os.Stat(filepath.Join(b.Context, b.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !strings.Contains(dockerfile, "\nFROM scratch AS "+b.Target+"\n") {
				t.Errorf("%s: the Dockerfile has no stage %s", name, b.Target)
			}
			for key := range s.Environment {
				if !strings.Contains(settings, `env: []string{"`+key+`"}`) {
					t.Errorf("%s: %s is no setting of kar", name, key)
				}
			}
		}
		if s.EnvFile != "" && !strings.Contains(read(t, "env.sh"), "$dir/"+s.EnvFile) {
			t.Errorf("%s: env.sh does not make %s", name, s.EnvFile)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			_, named := c.Volumes[source]
			if _, err := os.Stat(source); !named && err != nil {
				t.Errorf("%s: nothing to mount: %s", name, v)
			}
		}
		var needs []string
		switch s.DependsOn.Kind {
		case yaml.SequenceNode:
			_ = s.DependsOn.Decode(&needs)
		case yaml.MappingNode:
			var m map[string]any
			_ = s.DependsOn.Decode(&m)
			needs = slices.Collect(maps.Keys(m))
		}
		for _, other := range needs {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
	}
}

// TestPortsAgree: what gateways listen on, tell others, and are reached at.
func TestPortsAgree(t *testing.T) {
	c, balancer := compose(t), read(t, "haproxy.cfg")
	if len(c.gateways()) != 3 {
		t.Fatalf("gateways: %v, want three", c.gateways())
	}
	for _, name := range c.gateways() {
		s := c.Services[name]
		if s.Environment["KAR_ADVERTISE"] != "http://"+name+":8090" {
			t.Errorf("%s tells others %s", name, s.Environment["KAR_ADVERTISE"])
		}
		if s.Environment["KAFKA_BROKERS"] != "kafka:9092" || s.Environment["REDIS_HOST"] != "redis" || s.EnvFile != "mesh.env" || len(s.Command) > 0 {
			t.Errorf("%s: %+v", name, s)
		}
		for _, server := range []string{"server " + name + " " + name + ":8090 check ", "server " + name + "-anyway " + name + ":8090 backup\n"} {
			if !strings.Contains(balancer, server) {
				t.Errorf("haproxy.cfg lacks %q", server)
			}
		}
	}
	if n := strings.Count(balancer, "\n    server "); n != 6 {
		t.Errorf("haproxy.cfg has %d servers", n)
	}
	dockerfile := read(t, "Dockerfile")
	for _, line := range []string{"\nEXPOSE 8090\n", `CMD ["gateway", "--listen", ":8090"]`} {
		if !strings.Contains(dockerfile, line) {
			t.Errorf("the Dockerfile lacks %s", line)
		}
	}
	if !strings.Contains(balancer, "bind :8090\n") || !slices.Equal(c.Services["balancer"].Ports, []string{"127.0.0.1:8090:8090"}) {
		t.Error("the load balancer is not at 8090")
	}
	if got := c.Services["hello"].Environment["KAR_GATEWAY"]; got != "http://balancer:8090" {
		t.Errorf("the component goes to %s", got)
	}
	kafka := c.Services["kafka"].Environment
	if !strings.Contains(kafka["KAFKA_ADVERTISED_LISTENERS"], "kafka:9092") || !strings.Contains(kafka["KAFKA_LISTENERS"], ":9092") {
		t.Errorf("kafka is elsewhere: %v", kafka)
	}
}

// TestDockerfile: what is copied is there, nobody runs as root, and the version
// of Go is that of go.mod.
func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	stages := strings.Split(text, "\nFROM ")[1:]
	for _, stage := range stages {
		name := strings.TrimSpace(stage[strings.Index(stage, " AS ")+4 : strings.Index(stage, "\n")])
		if name != "build" && (!strings.HasPrefix(stage, "scratch ") || !regexp.MustCompile(`\nUSER [1-9][0-9]*:[1-9][0-9]*\n`).MatchString(stage)) {
			t.Errorf("stage %s: from scratch and with a number as user, please:\n%s", name, stage)
		}
	}
	if len(stages) != 3 || !strings.HasPrefix(stages[2], "scratch AS gateway") {
		t.Errorf("the last of three stages is the gateway, as docker build takes the last: %d", len(stages))
	}
	major := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if major == nil || !strings.HasPrefix(stages[0], "golang:"+major[1]+" ") {
		t.Errorf("built with %s, go.mod says %v", strings.SplitN(stages[0], "\n", 2)[0], major)
	}
	for _, path := range []string{"go.mod", "go.sum", "examples/greeter-go", "Makefile"} {
		if _, err := os.Stat(filepath.Join("..", path)); err != nil {
			t.Error(err)
		}
	}
}
