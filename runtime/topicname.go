package runtime

import "strings"

// CheckTopicName accepts the names of event topics, in every backend alike, so
// that a program may move between local and shared mode as it is: those that
// Kafka accepts and nobody else's.
func CheckTopicName(name string) error {
	legal := name != "" && len(name) <= 249 && name != "." && name != ".."
	for i := 0; legal && i < len(name); i++ {
		c := name[i]
		legal = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if !legal {
		return Errorf(CodeBadRequest, "a topic name has 1 to 249 letters, digits, dots, underscores or hyphens; %.60q is none", name)
	}
	if ReservedTopic(name) {
		return Errorf(CodeBadRequest, "topic names that begin with _kar. or with two underscores are reserved, and Kafka reads a dot as an underscore; %.60q begins so", name)
	}
	return nil
}

// ReservedTopic tells the names of a mesh's own topics and of Kafka's, and those
// that Kafka takes for the same: it does not tell a dot from an underscore.
func ReservedTopic(name string) bool {
	read := strings.ReplaceAll(name[:min(len(name), len("_kar_"))], ".", "_")
	return name != ".." && strings.HasPrefix(read, "__") || strings.HasPrefix(read, "_kar_")
}
