package gateway

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

func limitsOf(kind runtime.Kind, header http.Header) (*runtime.Request, error) {
	now := time.UnixMilli(1_000_000)
	x := &exchange{Gateway: &Gateway{cfg: Config{Now: func() time.Time { return now }}}, r: &http.Request{Header: header}}
	q := &runtime.Request{Kind: kind}
	return q, x.limits(q)
}

func TestLimits(t *testing.T) {
	all := http.Header{
		"Kar-Timeout": {"1m30s"}, "Kar-Delay": {"2.5"}, "Idempotency-Key": {"k"},
		"Kar-Missing-Component-Timeout": {"2m"}, "Kar-Actor-Busy-Timeout": {"1us"}, "Kar-Cancel-With-Caller": {"true"},
	}
	for kind, want := range map[runtime.Kind]runtime.Request{
		runtime.Call:    {Deadline: 1_090_000, NotBefore: 1_002_500, Key: "k", NoHost: 120_000, Busy: 1, CancelWithCaller: true},
		runtime.Promise: {Deadline: 1_090_000, NotBefore: 1_002_500, Key: "k", NoHost: 120_000, Busy: 1, CancelWithCaller: true},
		runtime.Tell:    {Deadline: 1_090_000, NotBefore: 1_002_500, Key: "k"},
		runtime.Remove:  {Deadline: 1_090_000, NotBefore: 1_002_500, Key: "k"},
	} {
		q, err := limitsOf(kind, all)
		if err != nil {
			t.Fatal(err)
		}
		got := runtime.Request{Deadline: q.Deadline, NotBefore: q.NotBefore, Key: q.Key, NoHost: q.NoHost, Busy: q.Busy, CancelWithCaller: q.CancelWithCaller}
		if got.Deadline != want.Deadline || got.NotBefore != want.NotBefore || got.Key != want.Key ||
			got.NoHost != want.NoHost || got.Busy != want.Busy || got.CancelWithCaller != want.CancelWithCaller {
			t.Errorf("kind %d: %+v, want %+v", kind, got, want)
		}
	}
	q, err := limitsOf(runtime.Call, http.Header{"Kar-Not-Before": {"2030-01-31T12:00:00+01:00"}, "Kar-Missing-Component-Timeout": {"0"}})
	if err != nil || q.NotBefore != 1_896_087_600_000 || q.NoHost != 0 || q.Deadline != 0 {
		t.Errorf("%+v, %v", q, err)
	}
}

func TestLimitsRefuse(t *testing.T) {
	long := make([]byte, maxKey+1)
	for _, h := range []http.Header{
		{"Kar-Timeout": {"soon"}}, {"Kar-Timeout": {"0"}}, {"Kar-Timeout": {"-5s"}}, {"Kar-Timeout": {""}}, {"Kar-Timeout": {"1e300"}},
		{"Kar-Timeout": {"NaN"}}, {"Kar-Timeout": {"1s", "2s"}}, {"Kar-Timeout": {"2000000h"}},
		{"Kar-Delay": {"-1"}}, {"Kar-Delay": {"1s"}, "Kar-Not-Before": {"2030-01-31T12:00:00Z"}},
		{"Kar-Not-Before": {"tomorrow"}}, {"Kar-Not-Before": {"10000-01-01T00:00:00Z"}}, {"Kar-Not-Before": {"9999-12-31T23:59:59-01:00"}},
		{"Idempotency-Key": {""}}, {"Idempotency-Key": {string(long)}}, {"Idempotency-Key": {"a", "b"}},
		{"Kar-Missing-Component-Timeout": {"-1s"}}, {"Kar-Actor-Busy-Timeout": {"x"}}, {"Kar-Cancel-With-Caller": {"maybe"}},
	} {
		_, err := limitsOf(runtime.Call, h)
		var e *runtime.Error
		if !errors.As(err, &e) || e.Code != runtime.CodeBadRequest {
			t.Errorf("%v: %v", h, err)
		}
	}
}

func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		pragma []string
		want   runtime.Kind
	}{
		{nil, runtime.Call}, {[]string{"no-cache"}, runtime.Call}, {[]string{"asynchronous"}, runtime.Call},
		{[]string{"async"}, runtime.Tell}, {[]string{"ASYNC"}, runtime.Tell}, {[]string{"no-cache, async"}, runtime.Tell},
		{[]string{"promise"}, runtime.Promise}, {[]string{"no-cache", "x,Promise"}, runtime.Promise},
	} {
		if got := kindOf(c.pragma); got != c.want {
			t.Errorf("%q: %d, want %d", c.pragma, got, c.want)
		}
	}
}

func TestForwardedHeader(t *testing.T) {
	got := forwarded(http.Header{
		"Content-Type": {"a/b"}, "X-Custom": {"1", "2"}, "Pragma": {"no-cache"}, "User-Agent": {"u"}, "Authorization": {"secret"},
		"Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"1"}, "Upgrade": {"h2c"}, "Te": {"trailers"},
		"Content-Length": {"3"}, "Expect": {"100-continue"}, "Kar-Request-Id": {"forged"}, "Kar-Attempt": {"9"}, "Kar-Timeout": {"1s"},
	})
	for _, name := range []string{"Content-Type", "X-Custom", "Pragma", "User-Agent", "Authorization"} {
		if len(got[name]) == 0 {
			t.Errorf("%s is lost", name)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("forwarded as well: %v", got)
	}
}
