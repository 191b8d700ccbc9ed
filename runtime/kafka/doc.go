// Package kafka keeps a mesh's log, and the topics that users name, on Kafka.
//
// The log is one topic with a partition for each partition of the mesh. Its
// settings are checked at start, because the mesh is as durable as they are:
// whoever calls [Open] repeats [Cluster.Check] from time to time. Offsets of the
// log are Kafka's.
//
// # Appends
//
// An append is a plain produce request with acks=all. The client repeats
// nothing and numbers nothing: what Kafka says about each attempt goes up, as a
// certain refusal or as an unknown outcome, and the engine, whose records are
// valid only once, sends the same bytes again. outcome.go has the table.
//
// A broker serves the requests of one connection in order and waits for its
// followers in between, so the partitions of a broker are spread over several
// connections, and requests that read have connections of their own.
package kafka
