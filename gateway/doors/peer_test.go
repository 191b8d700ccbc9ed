package doors

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A meddler sees and changes what is on the wire: requests before they arrive,
// answers before they are read. round counts from 1.
type meddler func(round int, req *http.Request, resp http.Header)

// handshake runs a dial against an accepting gateway until one of them gives up
// or both have taken the other in.
func handshake(dialler, accepter *Keys, meddle meddler) (nodes [2]string, err error) {
	d := dialler.DialPeer("node-dialler")
	for round := 1; round < 5; round++ {
		req := httptest.NewRequest(http.MethodGet, "/kar/peer", nil)
		d.Sign(req)
		if meddle != nil {
			meddle(round, req, nil)
		}
		w := httptest.NewRecorder()
		node, verr := accepter.VerifyPeer(w, req, "node-accepter")
		resp := &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: w.Header()}
		if verr != nil {
			resp.StatusCode = codeOf(verr).Status()
			resp.Header.Set("Kar-Error", string(codeOf(verr)))
		}
		if meddle != nil {
			meddle(round, nil, resp.Header)
		}
		again, derr := d.Answered(resp)
		if again {
			continue
		}
		if derr != nil {
			return nodes, derr
		}
		return [2]string{node, d.Node()}, verr
	}
	return nodes, runtime.Errorf(runtime.CodeInternal, "it never ends")
}

func TestGatewaysProveThemselvesToEachOther(t *testing.T) {
	a, b := keys(t, Config{Secret: secretA}), keys(t, Config{Secret: secretA})
	for range 3 {
		nodes, err := handshake(a, b, nil)
		if err != nil || nodes != [2]string{"node-dialler", "node-accepter"} {
			t.Fatalf("got %v, %v", nodes, err)
		}
	}
	if _, err := handshake(a, a, nil); err != nil {
		t.Errorf("with itself: %v", err)
	}
}

func TestStrangersAreNoGateways(t *testing.T) {
	ours := keys(t, Config{Secret: secretA})
	for name, stranger := range map[string]*Keys{
		"another secret": keys(t, Config{Secret: secretB}), "no secret": keys(t, Config{}), "insecure": keys(t, Config{Insecure: true}),
	} {
		if _, err := handshake(stranger, ours, nil); codeOf(err) != runtime.CodeUnauthorized {
			t.Errorf("%s dials: got %v", name, err)
		}
		if _, err := handshake(ours, stranger, nil); codeOf(err) != runtime.CodeUnauthorized {
			t.Errorf("%s accepts: got %v", name, err)
		}
	}
	// Other doors' proofs are none here.
	_, err := handshake(ours, ours, func(round int, req *http.Request, _ http.Header) {
		if req != nil && round == 2 {
			req.Header.Set(proofHeader, strings.Split(token(t, ours, Operator, time.Time{}), ".")[3])
		}
	})
	if codeOf(err) != runtime.CodeUnauthorized {
		t.Errorf("an operator's token: got %v", err)
	}
}

func TestNothingMayBeChangedOnTheWay(t *testing.T) {
	k := keys(t, Config{Secret: secretA})
	change := func(s string) string { return s[:len(s)-1] + string('A'+(s[len(s)-1]-'A'+1)%26) }
	for name, meddle := range map[string]meddler{
		"the dialler's words": func(round int, req *http.Request, _ http.Header) {
			if req != nil && round == 2 {
				req.Header.Set(peerHeader, strings.Replace(req.Header.Get(peerHeader), "dialler", "another", 1))
			}
		},
		"the challenge as answered": func(round int, req *http.Request, _ http.Header) {
			if req != nil && round == 2 {
				req.Header.Set(challengeHeader, change(req.Header.Get(challengeHeader)))
			}
		},
		"the challenge as given": func(round int, _ *http.Request, h http.Header) {
			if h != nil && round == 1 {
				h.Set(challengeHeader, strings.Replace(h.Get(challengeHeader), "accepter", "another", 1))
			}
		},
		"the proof": func(round int, req *http.Request, _ http.Header) {
			if req != nil && round == 2 {
				req.Header.Set(proofHeader, change(req.Header.Get(proofHeader)))
			}
		},
		"the accepter's proof": func(round int, _ *http.Request, h http.Header) {
			if h != nil && round == 2 {
				h.Set(proofHeader, change(h.Get(proofHeader)))
			}
		},
		"the accepter's proof is the dialler's": func() meddler {
			var said string
			return func(round int, req *http.Request, h http.Header) {
				if req != nil {
					said = req.Header.Get(proofHeader)
				} else if round == 2 {
					h.Set(proofHeader, said)
				}
			}
		}(),
		"the whole challenge is left out": func(_ int, _ *http.Request, h http.Header) {
			if h != nil {
				h.Del(challengeHeader)
			}
		},
	} {
		if _, err := handshake(k, k, meddle); codeOf(err) != runtime.CodeUnauthorized {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestRefusalsAreProvedToo: a gateway may take us for one and refuse all the same.
func TestRefusalsAreProvedToo(t *testing.T) {
	a, b := keys(t, Config{Secret: secretA}), keys(t, Config{Secret: secretA})
	d := a.DialPeer("node-a")
	for round := 1; round <= 2; round++ {
		req := httptest.NewRequest(http.MethodGet, "/kar/peer", nil)
		d.Sign(req)
		w := httptest.NewRecorder()
		_, err := b.VerifyPeer(w, req, "node-b")
		resp := &http.Response{StatusCode: 409, Header: w.Header()}
		if (err == nil) != (round == 2) || d.Proved(resp) != (round == 2) {
			t.Fatalf("round %d: %v, proved %v", round, err, d.Proved(resp))
		}
		if round == 1 {
			resp.StatusCode = 401
		}
		if _, err := d.Answered(resp); (err == nil) != (round == 1) {
			t.Errorf("round %d: %v", round, err)
		}
	}
	if d.Node() != "node-b" || d.Proved(&http.Response{Header: http.Header{}}) {
		t.Errorf("%s is believed without a proof", d.Node())
	}
}

// TestAFakeGatewayIsNotBelieved: it lets everybody in and proves nothing.
func TestAFakeGatewayIsNotBelieved(t *testing.T) {
	d := keys(t, Config{Secret: secretA}).DialPeer("node-a")
	if _, err := d.Answered(&http.Response{StatusCode: 101, Header: http.Header{}}); codeOf(err) != runtime.CodeUnauthorized {
		t.Errorf("got %v", err)
	}
}

func TestARequestCannotBeUsedTwice(t *testing.T) {
	now := time.Now()
	a := keys(t, Config{Secret: secretA, Now: func() time.Time { return now }})
	b := keys(t, Config{Secret: secretA, Now: func() time.Time { return now }})
	var seen *http.Request
	if _, err := handshake(a, b, func(_ int, req *http.Request, _ http.Header) {
		if req != nil {
			seen = req.Clone(t.Context())
		}
	}); err != nil {
		t.Fatal(err)
	}
	again := func(k *Keys) error {
		_, err := k.VerifyPeer(httptest.NewRecorder(), seen, "node-accepter")
		return err
	}
	if err := again(b); codeOf(err) != runtime.CodeUnauthorized || !strings.Contains(err.Error(), "before") {
		t.Errorf("at once: got %v", err)
	}
	if err := again(keys(t, Config{Secret: secretA})); codeOf(err) != runtime.CodeUnauthorized {
		t.Errorf("to another gateway: got %v", err)
	}
	now = now.Add(challengeLife)
	if err := again(b); codeOf(err) != runtime.CodeUnauthorized || !strings.Contains(err.Error(), "too old") {
		t.Errorf("later: got %v", err)
	}
	now = now.Add(time.Hour)
	if _, err := handshake(a, b, nil); err != nil || len(b.used) != 1 {
		t.Errorf("an hour later: %v, and %d nonces are remembered", err, len(b.used))
	}
}

func TestClocksApart(t *testing.T) {
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	ours, ahead := keys(t, Config{Secret: secretA}), keys(t, Config{Secret: secretA, Now: later})
	for name, pair := range map[string][2]*Keys{"the dialler's is ahead": {ahead, ours}, "the accepter's is ahead": {ours, ahead}} {
		_, err := handshake(pair[0], pair[1], nil)
		if codeOf(err) != runtime.CodeClockSkew {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Who cannot prove anything learns nothing of clocks.
	stranger := keys(t, Config{Secret: secretB, Now: later})
	if _, err := handshake(stranger, ours, nil); codeOf(err) != runtime.CodeUnauthorized {
		t.Errorf("a stranger: got %v", err)
	}
	near := keys(t, Config{Secret: secretA, Now: func() time.Time { return time.Now().Add(time.Minute) }})
	if _, err := handshake(near, ours, nil); err != nil {
		t.Errorf("a minute: got %v", err)
	}
}

func TestWithoutASecretOnlyThisMachine(t *testing.T) {
	none, insecure := keys(t, Config{}), keys(t, Config{Insecure: true})
	for _, c := range []struct {
		keys *Keys
		from string
		ok   bool
	}{
		{none, "127.0.0.1:1", true}, {none, "[::1]:1", true}, {none, "192.0.2.1:1", false}, {none, "", false},
		{insecure, "192.0.2.1:1", true},
	} {
		nodes, err := handshake(none, c.keys, func(_ int, req *http.Request, _ http.Header) {
			if req != nil {
				req.RemoteAddr = c.from
			}
		})
		if (err == nil) != c.ok || (c.ok && nodes != [2]string{"node-dialler", "node-accepter"}) {
			t.Errorf("from %q: got %v, %v", c.from, nodes, err)
		}
	}
}

func TestWordsThatAreNone(t *testing.T) {
	k := keys(t, Config{Secret: secretA})
	for _, said := range []string{"", "node", "node nonce 1", "node 0123456789abcdef", "node 0123456789abcdef soon", " 0123456789abcdef 1",
		"n\x7f 0123456789abcdef 1", strings.Repeat("n", 2000) + " 0123456789abcdef 1"} {
		req := httptest.NewRequest(http.MethodGet, "/kar/peer", nil)
		req.Header[peerHeader] = []string{said}
		w := httptest.NewRecorder()
		if _, err := k.VerifyPeer(w, req, "node-accepter"); codeOf(err) != runtime.CodeUnauthorized || w.Header().Get(challengeHeader) != "" {
			t.Errorf("%.30q: got %v and %v", said, err, w.Header())
		}
	}
}
