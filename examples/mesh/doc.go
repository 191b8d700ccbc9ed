// Package mesh proves on real parts what a shared mesh promises: a Kafka, a
// Redis, gateways and components as processes of their own, clients over HTTP,
// and a witness that stands outside and sees every run of every request.
//
// Each test hurts something under load (a gateway, the broker, the store, a
// link) and then asks: did each accepted request run, did it run once, did two
// runs of one actor ever overlap, is every acknowledged write still there, is
// the component's process the one that was started at the beginning, and how
// long did callers wait. The waits are logged; they are no pass or fail, apart
// from limits that only a fault reaches.
package mesh
