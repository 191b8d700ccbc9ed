package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestNormalise(t *testing.T) {
	for given, want := range map[string]string{
		"run -app x -app_port 8081 -- node -app y":                        "run --app x --app-port 8081 -- node -app y",
		"run -app=x -service=s node -v server.js":                         "run --app=x --service=s node -v server.js",
		"run --app_port=9 --app-port 10 -h2c cmd":                         "run --app-port=9 --app-port 10 --h2c cmd",
		"run -v info -cancel -app -x -- c":                                "run -v info --cancel --app -x -- c",
		"run -actor_busy_timeout 2m -kafka_brokers a:1,b:2 -redis_port=1": "run --actor-busy-timeout 2m --kafka-brokers a:1,b:2 --redis-port=1",
		"run -request_retry_limit -1s -- c":                               "run --request-retry-limit -1s -- c",
		"invoke -app dp Cafe x seat -5 -app_port 3":                       "invoke --app dp Cafe x seat -5 -app_port 3",
		"get -mr -s actors -t T -i I -o json":                             "get --mr -s actors -t T -i I -o json",
		"get -app dp -mr":                                                 "get --app dp --mr",
		"service add -app a -timeout 3s n http://x":                       "service add --app a --timeout 3s n http://x",
		"gateway -state_dir /tmp/x status -o json":                        "gateway --state-dir /tmp/x status -o json",
		"purge -app a -redis_host h -placement_cache=false":               "purge --app a --redis-host h --placement-cache=false",
		"run -unknown_flag x":                                             "run -unknown_flag x",
		"-help":                                                           "--help",
	} {
		p := &program{}
		got := normalise(p.root(), strings.Fields(given))
		if strings.Join(got, " ") != want {
			t.Errorf("%s\n got %s\nwant %s", given, strings.Join(got, " "), want)
		}
	}
}

func TestNormaliseKeepsWhatIsTheUsers(t *testing.T) {
	p := &program{}
	args := []string{"invoke", "-app", "a", "T", "i", "m", `{"-app":1}`, "-1.5", "--", "-x", ""}
	got := normalise(p.root(), args)
	if !slices.Equal(got[3:], args[3:]) || got[1] != "--app" {
		t.Errorf("got %q", got)
	}
}

// FuzzNormalise: nothing a user types makes the program panic, and what comes
// after -- is never touched.
func FuzzNormalise(f *testing.F) {
	f.Add("run -app x -- y")
	f.Add("invoke -app=x -=")
	f.Fuzz(func(t *testing.T, line string) {
		p := &program{}
		args := strings.Fields(line)
		got := normalise(p.root(), args)
		if i := slices.Index(args, "--"); i >= 0 {
			tail := args[i:]
			if len(got) < len(tail) || !slices.Equal(got[len(got)-len(tail):], tail) {
				t.Errorf("%q became %q", args, got)
			}
		}
	})
}
