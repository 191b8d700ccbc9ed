package parts

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A port that somebody else answers is no broker.
func TestSpeaksKafka(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := speaksKafka(conn); err == nil {
		t.Error("an HTTP server is taken for a broker")
	}
}
