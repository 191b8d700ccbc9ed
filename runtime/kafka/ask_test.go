package kafka

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// A broker that takes connections and says nothing holds up no question that another
// one can answer.
func TestBrokerThatHangs(t *testing.T) {
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	well := sarama.NewMockBroker(t, 2)
	defer well.Close()
	well.SetHandlerByMap(map[string]sarama.MockResponse{
		"ApiVersionsRequest": sarama.NewMockApiVersionsResponse(t).SetApiKeys([]sarama.ApiVersionsResponseKey{{ApiKey: 18, MaxVersion: 3}}),
	})
	cfg := Config{Brokers: []string{hangs.Addr().String(), well.Addr()}, Mesh: "m", Partitions: 1, Timeout: 10 * time.Second}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	s, err := cfg.client()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{
		cfg: cfg, sarama: s, refreshes: newShared(),
		brokers: map[int32]string{}, failed: map[string]time.Time{}, idle: map[string][]*conn{}, lanes: map[laneKey]*lane{}, senders: map[string]*sender{},
	}
	c.life, c.end = context.WithCancel(t.Context())
	c.topics = newTopics(c)
	defer c.Close()
	began := time.Now()
	answer, err := ask(t.Context(), c, func(b *sarama.Broker) (*sarama.ApiVersionsResponse, error) {
		return b.ApiVersions(&sarama.ApiVersionsRequest{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > cfg.Timeout/2 {
		t.Errorf("it took %v, as long as a broker that hangs is waited for", took)
	}
	if len(answer.ApiKeys) == 0 {
		t.Errorf("%+v", answer)
	}
	if list := c.addresses(); list[len(list)-1] != hangs.Addr().String() {
		t.Errorf("who hangs is asked before others: %v", list)
	}
}
