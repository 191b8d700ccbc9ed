// Package embedded keeps a mesh in one folder of this machine: the partitions'
// logs and the topics' journal as checksummed files that are fsynced before
// they are acknowledged, and one Pebble database as the view of both.
//
// The journals are the truth. The view has no log of its own: what a crash
// takes from it is applied again from the journals, which are trimmed only up
// to what the view holds durably. docs/decisions/0002-embedded-storage.md says
// why, and what was measured.
//
// The folder:
//
//	FORMAT                     plain text: format version, mesh, partition count; written last
//	LOCK, PID                  held, and written, by the process that has the folder open
//	log/p0000-….log            segments of partition 0, named by the offset of their first record
//	log/p0000.witness          how far partition 0 has acknowledged, beside the log itself
//	log/topics-….log           the journal of the topics, likewise
//	view/                      Pebble
package embedded
