// Package peer has the streams between the gateways of a mesh: they carry what
// runtime/engine says in peers.go.
//
// A gateway dials each of the others. What it asks and tells goes over the
// stream that it dialled, and so do the answers; what others ask and tell comes
// over the streams that they dialled. So there are two streams for each pair,
// each with one order, and each gateway finds out for itself whether another
// one is there. A stream begins as an HTTP/1.1 upgrade at the gateway's own
// address, and is a sequence of frames from then on.
package peer
