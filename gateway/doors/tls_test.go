package doors

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// writeCertificate puts a self-signed certificate with this number into two files.
func writeCertificate(t *testing.T, certFile, keyFile string, number int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(number), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificatesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	var log bytes.Buffer
	config, err := ServerTLS(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	served := func() int64 {
		t.Helper()
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		go func() { _ = tls.Server(theirs, config).Handshake() }() // ends with the pipe
		client := tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		return client.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	eventually := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); served() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("certificate %d is never served", want)
			}
		}
	}
	if n := served(); n != 1 {
		t.Fatalf("certificate %d is served", n)
	}
	writeCertificate(t, cert, key, 2)
	eventually(2)

	// Half a change: the certificate before goes on, then the other half comes.
	writeCertificate(t, cert, filepath.Join(dir, "later.pem"), 3)
	for deadline := time.Now().Add(3 * lookEvery); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if n := served(); n != 2 {
			t.Fatalf("certificate %d is served with the key of another", n)
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("half a change was told %d times:\n%s", n, &log)
	}
	if err := os.Rename(filepath.Join(dir, "later.pem"), key); err != nil {
		t.Fatal(err)
	}
	eventually(3)
}

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	for name, files := range map[string][2]string{
		"no key": {cert, ""}, "no certificate": {"", key}, "absent": {cert, filepath.Join(dir, "absent")}, "the wrong way round": {key, cert},
	} {
		if _, err := ServerTLS(files[0], files[1], slog.New(slog.DiscardHandler)); codeOf(err) != runtime.CodeBadConfig {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
