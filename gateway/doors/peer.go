package doors

import (
	"crypto/hmac"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Gateways that connect prove to each other that they know the secret, in the
// headers of one HTTP upgrade that is asked for twice:
//
//	→ Kar-Peer: node nonce time
//	← 401, Kar-Peer-Challenge: node' nonce' time'
//	→ Kar-Peer: node nonce time, Kar-Peer-Challenge as received, Kar-Peer-Proof
//	← 101, Kar-Peer-Proof
//
// Each proof is over all six words and the role of who makes it, so none can be
// used again, elsewhere, or the other way round. Who does not prove first gets
// none. Nonces are random; the time only tells clocks apart. Nodes are boot ids.
//
// This says who begins the stream. That nobody takes it over on the way is for
// TLS to say.
const (
	peerHeader      = "Kar-Peer"
	challengeHeader = "Kar-Peer-Challenge"
	proofHeader     = "Kar-Peer-Proof"

	// peerSkew is how far the clocks of two gateways may be apart.
	peerSkew = 2 * time.Minute
	// challengeLife is how long a challenge may be answered.
	challengeLife = 30 * time.Second
	// wordsLimit is the longest header that is looked at, in bytes.
	wordsLimit = 1024
)

// words are what one end says about itself.
type words struct {
	node, nonce string
	time        time.Time // Unix milliseconds on the wire
}

func (w words) String() string {
	return w.node + " " + w.nonce + " " + strconv.FormatInt(w.time.UnixMilli(), 10)
}

func parseWords(s string) (w words, ok bool) {
	parts := strings.Split(s, " ")
	if len(s) > wordsLimit || len(parts) < 3 || !isNode(parts[0]) || len(parts[1]) < 16 {
		return w, false
	}
	millis, err := strconv.ParseInt(parts[2], 10, 64)
	return words{parts[0], parts[1], time.UnixMilli(millis)}, err == nil
}

// isNode: boot ids are words of plain letters.
func isNode(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

func peerText(role string, client, server words) string {
	return "kar peer 1 " + role + "\n" + client.String() + "\n" + server.String()
}

// skewed tells clocks that are too far apart from an intruder: it is asked
// after the proof.
func skewed(ours, theirs time.Time, node string) error {
	if d := ours.Sub(theirs); d.Abs() > peerSkew {
		return runtime.Errorf(runtime.CodeClockSkew, "the clock of the gateway %s is %s from this one's", node, d.Abs().Round(time.Second))
	}
	return nil
}

// A PeerDial is the dialling end of one handshake:
//
//	for d := keys.DialPeer(node); ; {
//		d.Sign(req)
//		resp, err := …
//		if again, err := d.Answered(resp); !again { … }
//	}
type PeerDial struct {
	keys      *Keys
	us        words
	challenge string // as received, "" before
	them      words
}

// DialPeer begins a handshake of this gateway, whose boot id is node.
func (k *Keys) DialPeer(node string) *PeerDial {
	return &PeerDial{keys: k, us: words{node, random(), k.now()}}
}

// Sign says in the request's header who asks.
func (d *PeerDial) Sign(req *http.Request) {
	req.Header.Set(peerHeader, d.us.String())
	if d.challenge != "" && d.keys.HasSecret() {
		req.Header.Set(challengeHeader, d.challenge)
		req.Header.Set(proofHeader, d.keys.prove(peerText("client", d.us, d.them)))
	}
}

// Answered takes the answer. Again asks for the same request once more, signed
// anew; neither that nor an error means that the other end is a gateway of this
// mesh that has taken this one for another. The body is the caller's to close.
func (d *PeerDial) Answered(resp *http.Response) (again bool, err error) {
	challenge := resp.Header.Get(challengeHeader)
	if resp.StatusCode == http.StatusUnauthorized && challenge != "" && d.challenge == "" {
		them, ok := parseWords(challenge)
		if !d.keys.HasSecret() {
			return false, runtime.Errorf(runtime.CodeUnauthorized, "the other gateway has a secret of the mesh, and this one has none")
		}
		if !ok {
			return false, runtime.Errorf(runtime.CodeUnauthorized, "the other gateway's challenge cannot be read")
		}
		d.challenge, d.them = challenge, them
		return true, nil
	}
	if resp.StatusCode >= 300 {
		return false, refusedBy(resp)
	}
	if !d.keys.HasSecret() {
		if said := resp.Header.Get(peerHeader); isNode(said) {
			d.them.node = said
		}
		return false, nil
	}
	if !d.Proved(resp) {
		return false, runtime.Errorf(runtime.CodeUnauthorized, "the other end has not proved that it is a gateway of this mesh")
	}
	return false, skewed(d.keys.now(), d.them.time, d.them.node)
}

// Proved tells whether an answer, a refusal too, comes from a gateway of this
// mesh that has taken us for one: what it says otherwise may be anybody's word.
// Without a secret everything is believed.
func (d *PeerDial) Proved(resp *http.Response) bool {
	return !d.keys.HasSecret() ||
		d.challenge != "" && d.keys.proved(peerText("server", d.us, d.them), resp.Header.Get(proofHeader))
}

// refusedBy reads a refusal; of codes only those that VerifyPeer gives.
func refusedBy(resp *http.Response) error {
	switch code := runtime.Code(resp.Header.Get("Kar-Error")); {
	case code == runtime.CodeUnauthorized:
		return runtime.Errorf(code, "the other gateway does not take this one for a gateway of its mesh")
	case code == runtime.CodeClockSkew:
		return runtime.Errorf(code, "the other gateway's clock is more than %s from this one's", peerSkew)
	case resp.StatusCode == http.StatusServiceUnavailable:
		return runtime.Errorf(runtime.CodeUnavailable, "the other gateway takes no streams now")
	}
	return runtime.Errorf(runtime.CodeBadAnswer, "the other end answered %d, as no gateway of this mesh does", resp.StatusCode)
}

// Node is the boot id of the other gateway, after the last answer.
func (d *PeerDial) Node() string { return d.them.node }

// VerifyPeer is the accepting end; us is the boot id of this gateway. It puts
// what the answer must say into w's header: on success for the 101, with an
// error for the refusal, whose status is the error's. The first request of a
// handshake is such an error too.
func (k *Keys) VerifyPeer(w http.ResponseWriter, r *http.Request, us string) (node string, err error) {
	client, ok := parseWords(r.Header.Get(peerHeader))
	if !ok {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "this path is for gateways of the mesh")
	}
	if !k.HasSecret() {
		if !k.insecure && !fromLoopback(r) {
			return "", runtime.Errorf(runtime.CodeUnauthorized, "without a secret of the mesh, gateways of other machines are not let in")
		}
		if err := skewed(k.now(), client.time, client.node); err != nil {
			return "", err
		}
		w.Header().Set(peerHeader, us)
		return client.node, nil
	}
	said := r.Header.Get(challengeHeader)
	if said == "" {
		w.Header().Set(challengeHeader, k.challenge(us, client))
		return "", runtime.Errorf(runtime.CodeUnauthorized, "prove that you are a gateway of this mesh")
	}
	server, ok := k.ourChallenge(us, client, said)
	if !ok {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "the challenge is not of this gateway, or too old")
	}
	if !k.proved(peerText("client", client, server), r.Header.Get(proofHeader)) {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "the proof was not made with a secret of this mesh")
	}
	if !k.useOnce(server.nonce) {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "the challenge was answered before")
	}
	if err := skewed(k.now(), client.time, client.node); err != nil {
		return "", err
	}
	w.Header().Set(proofHeader, k.prove(peerText("server", client, server)))
	return client.node, nil
}

// challenge makes words with a mark by which they are known again, so that
// nothing is kept for those who never answer.
func (k *Keys) challenge(us string, client words) string {
	w := words{us, random(), k.now()}
	return w.String() + " " + b64().EncodeToString(proof(k.challenges[:], client.String()+"\n"+w.String()))
}

// ourChallenge reads a challenge that this gateway gave to this client just now.
func (k *Keys) ourChallenge(us string, client words, said string) (words, bool) {
	w, ok := parseWords(said)
	text, mark, _ := cutLast(said)
	got, err := b64().DecodeString(mark)
	ok = ok && err == nil && text == w.String() && w.node == us &&
		hmac.Equal(got, proof(k.challenges[:], client.String()+"\n"+text))
	age := k.now().Sub(w.time)
	return w, ok && age >= -time.Second && age < challengeLife
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// useOnce remembers the nonces that were answered well for as long as they could be again.
func (k *Keys) useOnce(nonce string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for n, until := range k.used {
		if now.After(until) {
			delete(k.used, n)
		}
	}
	if _, used := k.used[nonce]; used {
		return false
	}
	k.used[nonce] = now.Add(2 * challengeLife)
	return true
}

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
