package kafka

import (
	"encoding/hex"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// escaped begins the Kafka name of an event topic whose own name Kafka does not
// take. No topic of a mesh begins so, as a mesh's name does not begin with a dot.
const escaped = reserved + "."

// longest is the number of bytes of the longest name that Kafka takes.
const longest = 249

// kafkaName is the name of an event topic in Kafka: its own, after the prefix,
// where Kafka takes that, else one made of it.
func (c *Config) kafkaName(topic string) (string, error) {
	name := c.TopicPrefix + topic
	switch {
	case runtime.ReservedTopic(topic):
		return "", runtime.CheckTopicName(topic)
	case !legal(topic):
		name = c.TopicPrefix + escaped + escape(topic)
	}
	if len(name) > longest {
		return "", runtime.Errorf(runtime.CodeBadRequest, "the name of a topic is too long for Kafka: %d bytes of at most %d", len(name), longest)
	}
	return name, nil
}

// eventName is the reverse; not ok where the topic is none for events.
func (c *Config) eventName(name string) (topic string, ok bool) {
	topic, ok = strings.CutPrefix(name, c.TopicPrefix)
	if !ok {
		return "", false
	}
	if e, ok := strings.CutPrefix(topic, escaped); ok {
		return unescape(e)
	}
	return topic, !runtime.ReservedTopic(topic)
}

func legal(name string) bool {
	if name == "" || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		if !simple(name[i]) && name[i] != '.' && name[i] != '_' {
			return false
		}
	}
	return true
}

func simple(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-'
}

// escape writes bytes other than letters, digits and hyphens as _ and two digits.
func escape(name string) string {
	var out strings.Builder
	for i := range len(name) {
		if simple(name[i]) {
			out.WriteByte(name[i])
		} else {
			out.WriteString("_" + hex.EncodeToString([]byte{name[i]}))
		}
	}
	return out.String()
}

func unescape(s string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '_' {
			out.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) {
			return "", false
		}
		b, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", false
		}
		out.WriteByte(b[0])
		i += 2
	}
	return out.String(), true
}
