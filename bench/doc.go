// Command bench measures KAR against its own floor, on one machine, in one
// run: what two fsynced appends and two HTTP round trips cost, what a gateway
// without any rules does (the sketch), and what the real binary does, with one
// load generator and one handler for all of them.
//
//	go run ./bench                        everything, about 55 minutes on two cores
//	go run ./bench -run floor,sketch      some parts
//	go run ./bench -scale 0.1 -run history
//	go run ./bench -run mesh -figures kills
//	go run ./bench -run rivals            KAR beside Restate (make bench-rivals)
//
// Every part that is not the load generator is a process of its own: this
// program starts itself again as "bench app", "bench sketch-gateway" and
// "bench sketch-sidecar".
package main
