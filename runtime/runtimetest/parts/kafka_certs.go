package parts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// kafkaCerts are an authority, a server certificate for this machine and a
// client certificate, in PEM.
type kafkaCerts struct {
	dir                   string
	ca, client, clientKey []byte
}

func makeKafkaCerts(dir string) (*kafkaCerts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c := &kafkaCerts{dir: dir, ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	issue := func(name string, usage x509.ExtKeyUsage) (cert, private []byte, err error) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		}, authority, k.Public(), key)
		if err != nil {
			return nil, nil, err
		}
		b, err := x509.MarshalPKCS8PrivateKey(k)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}), err
	}
	server, serverKey, err := issue("broker", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	if c.client, c.clientKey, err = issue("client", x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.file("server.pem"), append(serverKey, server...), 0o600); err != nil {
		return nil, err
	}
	return c, os.WriteFile(c.file("ca.pem"), c.ca, 0o644)
}

func (c *kafkaCerts) file(name string) string { return filepath.Join(c.dir, name) }

func (c *kafkaCerts) properties() map[string]string {
	return map[string]string{
		"ssl.keystore.type":                    "PEM",
		"ssl.keystore.location":                c.file("server.pem"),
		"ssl.truststore.type":                  "PEM",
		"ssl.truststore.location":              c.file("ca.pem"),
		"listener.name.mutual.ssl.client.auth": "required",
	}
}
