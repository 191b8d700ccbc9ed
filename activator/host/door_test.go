package host_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

func codeOf(err error) runtime.Code {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// senderIsToken lets everybody act for the app that is his token.
func senderIsToken(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// with starts a rig whose host of app/1 shows a token and has a boot id.
func with(t *testing.T, token, boot string) *rig {
	return start(t, newScriptApp(ok), func(_ *rig, a *activator.Config, h *host.Config) {
		a.Sender = senderIsToken
		h.Access.Token, h.Info.Boot = token, boot
	})
}

func TestAttachWithATokenOfTheApp(t *testing.T) {
	boot := host.NewBoot("app/1")
	r := with(t, "app/1", boot)
	if got := wait(t, "join", r.owners.ups); got.info.Boot != boot {
		t.Errorf("got %+v", got.info)
	}
}

func TestAttachWithATokenOfAnotherApp(t *testing.T) {
	for name, c := range map[string]struct{ token, boot string }{
		"another app":                        {"other", host.NewBoot("app/1")},
		"the app, and a boot of another":     {"app/1", host.NewBoot("other")},
		"the app, and a boot that says none": {"app/1", "boot-1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := with(t, c.token, c.boot)
			err := wait(t, "end", r.ran)
			r.ran <- err // for the cleanup
			if codeOf(err) != runtime.CodeForbidden {
				t.Errorf("got %v", err)
			}
			if len(r.owners.ups) > 0 {
				t.Error("the owners heard of the host")
			}
		})
	}
}

// TestExitOfAnotherAppIsNotBelieved: it would have running work tried again.
func TestExitOfAnotherAppIsNotBelieved(t *testing.T) {
	mine, theirs := host.NewBoot("app/1"), host.NewBoot("other")
	r := with(t, "app/1", mine)
	wait(t, "join", r.owners.ups)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	gateway := "http://" + r.proxy.addr()
	if err := host.ReportExit(ctx, gateway, host.Access{Token: "app/1"}, theirs, "gone"); codeOf(err) != runtime.CodeForbidden {
		t.Errorf("a foreign boot: got %v", err)
	}
	if err := host.ReportExit(ctx, gateway, host.Access{Token: "app/1"}, mine, "gone"); err != nil {
		t.Errorf("its own: %v", err)
	}
	if got := wait(t, "exit", r.owners.downs); got != mine+": gone" {
		t.Errorf("got %q", got)
	}
	if len(r.owners.downs) > 0 {
		t.Errorf("and %q", <-r.owners.downs)
	}
}

// A doorkeeper stands before a gateway and refuses with a code while told to.
type doorkeeper struct {
	code  atomic.Value // runtime.Code; "" lets in
	asked atomic.Int32
}

func (d *doorkeeper) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.asked.Add(1)
		if code, _ := d.code.Load().(runtime.Code); code != "" {
			w.Header().Set("Kar-Error", string(code))
			http.Error(w, "not with this token\nhint", code.Status())
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestHostThatIsNeverLetInEnds(t *testing.T) {
	keeper := &doorkeeper{}
	keeper.code.Store(runtime.CodeUnauthorized)
	gw := httptest.NewServer(keeper.before(http.NotFoundHandler()))
	defer gw.Close()
	r := start(t, newScriptApp(ok), func(_ *rig, _ *activator.Config, h *host.Config) { h.Gateway = gw.URL })
	err := wait(t, "end", r.ran)
	r.ran <- err
	if codeOf(err) != runtime.CodeUnauthorized || !strings.Contains(err.Error(), "not with this token") || keeper.asked.Load() != 1 {
		t.Errorf("after %d requests: got %v", keeper.asked.Load(), err)
	}
}

// guarded is a host that was let in by a gateway that asks the keeper.
func guarded(t *testing.T, lease time.Duration) (keeper *doorkeeper, owners *owners, proxy *cutter, r *rig) {
	t.Helper()
	keeper = &doorkeeper{}
	keeper.code.Store(runtime.Code(""))
	var gateway http.Handler
	gw := httptest.NewServer(keeper.before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { gateway.ServeHTTP(w, r) })))
	t.Cleanup(gw.Close)
	proxy = newCutter(t, gw.Listener.Addr().String())
	t.Cleanup(proxy.close)
	owners = newOwners()
	act, err := activator.New(activator.Config{Owners: owners, API: http.NotFoundHandler(), Node: "gw", Lease: lease, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = act.Close() })
	gateway = act
	r = start(t, newScriptApp(ok), func(_ *rig, _ *activator.Config, h *host.Config) { h.Gateway = "http://" + proxy.addr() })
	wait(t, "join", owners.ups)
	return keeper, owners, proxy, r
}

// TestHostThatWasLetInTriesOn: a gateway with a wrong secret must not end what runs.
func TestHostThatWasLetInTriesOn(t *testing.T) {
	keeper, owners, proxy, _ := guarded(t, time.Minute)
	keeper.code.Store(runtime.CodeUnauthorized)
	before := keeper.asked.Load()
	proxy.cut(false)
	for deadline := time.Now().Add(patience); keeper.asked.Load() < before+3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not try on")
		}
	}
	keeper.code.Store(runtime.Code(""))
	wait(t, "join after the refusals", owners.ups)
}

// TestHostThatIsLetInNoMoreEnds: one that is counted lost by now has nothing to try on for.
func TestHostThatIsLetInNoMoreEnds(t *testing.T) {
	keeper, _, proxy, r := guarded(t, 300*time.Millisecond)
	keeper.code.Store(runtime.CodeUnauthorized)
	begun := time.Now()
	proxy.cut(false)
	if did := wait(t, "kill", r.guard.did); did != "kill" {
		t.Errorf("%s", did)
	}
	err := wait(t, "end", r.ran)
	r.ran <- err
	if codeOf(err) != runtime.CodeUnauthorized || time.Since(begun) < 1300*time.Millisecond {
		t.Errorf("after %s: got %v", time.Since(begun), err)
	}
}

func TestTokenGoesToTheGatewayOnly(t *testing.T) {
	seen := make(chan string, 10)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- "elsewhere " + r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	gw := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- "gateway " + r.Header.Get("Authorization")
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	}))
	defer gw.Close()
	client, err := host.Access{Token: "secret"}.Client(gw.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get(gw.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if a, b := <-seen, <-seen; a != "gateway Bearer secret" || b != "elsewhere " {
		t.Errorf("got %q, then %q", a, b)
	}
}

func TestTLS(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/forbidden" {
			w.WriteHeader(http.StatusForbidden) // a component's
		}
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write([]byte("hello"))
	})
	secure, plain := httptest.NewUnstartedServer(hello), httptest.NewServer(hello)
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer secure.Close()
	defer plain.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	for name, c := range map[string]struct {
		url, ca string
		code    runtime.Code
		says    string
	}{
		"with its CA":         {secure.URL, ca, "", "200 hello"},
		"without its CA":      {secure.URL, "", runtime.CodeTLSUntrusted, "unknown authority"},
		"another name":        {strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), ca, runtime.CodeTLSUntrusted, "localhost"},
		"plain against TLS":   {strings.Replace(secure.URL, "https", "http", 1), ca, runtime.CodeTLSMismatch, "speaks TLS only"},
		"TLS against plain":   {strings.Replace(plain.URL, "http", "https", 1), ca, runtime.CodeTLSMismatch, "speaks no TLS"},
		"plain against plain": {plain.URL, ca, "", "200 hello"},
		"their own 403":       {plain.URL + "/forbidden", "", "", "403 hello"},
		"their own 400":       {plain.URL + "/bad", "", "", "400 hello"},
	} {
		client, err := host.Access{CA: c.ca, Token: "secret"}.Client(c.url)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get(c.url)
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			said = resp.Status[:4] + string(text)
		}
		if codeOf(err) != c.code || !strings.Contains(said, c.says) || strings.Contains(said, "secret") {
			t.Errorf("%s: got %s, want %q %q", name, said, c.code, c.says)
		}
		client.CloseIdleConnections()
	}
	if _, err := (host.Access{CA: "nonsense"}).Client(secure.URL); codeOf(err) != runtime.CodeBadConfig {
		t.Errorf("a CA that is none: got %v", err)
	}
	x := x509.NewCertPool()
	x.AddCert(secure.Certificate())
	if config, err := (host.Access{CA: ca}).TLS(); err != nil || !config.RootCAs.Equal(x) {
		t.Errorf("the CA is not the only one: %v", err)
	}
}

func TestAttachOverTLS(t *testing.T) {
	owners := newOwners()
	act, err := activator.New(activator.Config{Owners: owners, API: http.NotFoundHandler(), Node: "gw", Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer act.Close()
	gw := httptest.NewUnstartedServer(act)
	gw.EnableHTTP2 = true // what a gateway offers, and a stream must not choose
	gw.StartTLS()
	defer gw.Close()
	start(t, newScriptApp(ok), func(_ *rig, _ *activator.Config, h *host.Config) {
		h.Gateway = gw.URL
		h.Access.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: gw.Certificate().Raw}))
	})
	wait(t, "join", owners.ups)
}

func TestBootsNameTheirApp(t *testing.T) {
	boot := tunnel.NewBoot("shop")
	if !tunnel.BootFits(boot, "shop") || tunnel.BootFits(boot, "other") || tunnel.BootFits(boot[1:], "shop") || tunnel.BootFits("", "") {
		t.Errorf("%s", boot)
	}
	if again := tunnel.NewBoot("shop"); again == boot {
		t.Error("twice the same boot")
	}
}
