package kafka

import (
	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
	"github.com/xdg-go/scram"
)

// scramClient makes the client's side of a login with SCRAM.
func scramClient(mechanism sarama.SASLMechanism) func() sarama.SCRAMClient {
	return func() sarama.SCRAMClient {
		if mechanism == sarama.SASLTypeSCRAMSHA256 {
			return &scramTalk{hash: scram.SHA256}
		}
		return &scramTalk{hash: scram.SHA512}
	}
}

type scramTalk struct {
	hash scram.HashGeneratorFcn
	talk *scram.ClientConversation
}

func (s *scramTalk) Begin(user, password, authzID string) error {
	client, err := s.hash.NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	s.talk = client.NewConversation()
	return nil
}

func (s *scramTalk) Step(challenge string) (string, error) { return s.talk.Step(challenge) }
func (s *scramTalk) Done() bool                            { return s.talk.Done() }

// noMetrics is a registry that keeps nothing: sarama's meters cost time in each
// request and a goroutine that nobody can end.
type noMetrics struct{}

func (noMetrics) GetOrRegister(_ string, metric any) any {
	switch metric.(type) {
	case func() metrics.Meter:
		return metrics.NilMeter{}
	case func() metrics.Counter:
		return metrics.NilCounter{}
	}
	return metrics.NilHistogram{}
}

func (noMetrics) Each(func(string, any))            {}
func (noMetrics) Get(string) any                    { return nil }
func (noMetrics) GetAll() map[string]map[string]any { return nil }
func (noMetrics) Register(string, any) error        { return nil }
func (noMetrics) RunHealthchecks()                  {}
func (noMetrics) Unregister(string)                 {}
func (noMetrics) UnregisterAll()                    {}
