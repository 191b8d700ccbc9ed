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
// A request takes along the batches of all partitions that wait, and a broker
// answers it when the last of them is replicated. So a request that is late
// does not keep the next one, which goes over another connection, and each of
// its batches is sent once more by itself (sender.go). Requests that read have
// connections of their own.
package kafka
