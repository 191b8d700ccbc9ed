// Package doors decides who may talk to a gateway. A mesh has a secret; the
// tokens of apps and operators, and the proof by which gateways know each
// other, are derived from it, and none of them is stored.
package doors

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// MinSecret is the shortest secret in bytes.
const MinSecret = 16

// Config of the doors. Its zero value is a gateway without secret.
type Config struct {
	// Secret of the mesh; several are separated by commas: the first makes
	// tokens and proofs, all are accepted. "" for none.
	Secret string
	// Insecure lets everybody in without a secret, from anywhere.
	Insecure bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Keys make and check tokens and proofs. They may be used from any goroutine.
type Keys struct {
	secrets  [][]byte // the first makes
	insecure bool
	now      func() time.Time

	// of the handshakes with other gateways
	challenges [32]byte // key of this process alone
	mu         sync.Mutex
	used       map[string]time.Time // challenges that were answered well, until when
}

// New reads the secrets.
func New(cfg Config) (*Keys, error) {
	k := &Keys{insecure: cfg.Insecure, now: cfg.Now, used: map[string]time.Time{}}
	if k.now == nil {
		k.now = time.Now
	}
	_, _ = rand.Read(k.challenges[:]) // never fails
	if strings.TrimSpace(cfg.Secret) == "" {
		return k, nil
	}
	for part := range strings.SplitSeq(cfg.Secret, ",") {
		part = strings.TrimSpace(part)
		if len(part) < MinSecret {
			return nil, runtime.Errorf(runtime.CodeBadConfig, "a secret of the mesh has %d bytes, but must have %d or more (commas separate several)", len(part), MinSecret)
		}
		k.secrets = append(k.secrets, []byte(part))
	}
	return k, nil
}

// HasSecret tells whether tokens and proofs are asked for.
func (k *Keys) HasSecret() bool { return len(k.secrets) > 0 }

// Insecure tells whether everybody may come from anywhere.
func (k *Keys) Insecure() bool { return k.insecure && !k.HasSecret() }

// proof is what only who knows the secret can say about a text. Texts of
// different purposes begin differently.
func proof(secret []byte, text string) []byte {
	h := hmac.New(sha256.New, secret)
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum(nil)
}

// prove makes a proof with the first secret.
func (k *Keys) prove(text string) string { return b64().EncodeToString(proof(k.secrets[0], text)) }

// proved checks a proof against all secrets, in the same time whatever it is.
func (k *Keys) proved(text, said string) bool {
	got, err := b64().DecodeString(said)
	if err != nil {
		return false
	}
	ok := false
	for _, secret := range k.secrets {
		if hmac.Equal(got, proof(secret, text)) {
			ok = true
		}
	}
	return ok
}

func b64() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// random is a text that was never said before.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return b64().EncodeToString(b[:])
}
