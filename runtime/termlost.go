package runtime

// A host obeys no owner of an earlier term than the highest of which it has heard.
// When an older copy of a log is put back, all its terms may be earlier, and the
// host would wait for ever. So it says of what term it knows, and the owner of the
// partition finds out whether the log has held that one.

// TermSeen is the term of a partition that a host knows. Mark changes with each
// owner that the host has answered, whatever its term.
type TermSeen struct {
	Partition   uint16
	Epoch, Mark uint64
}

// HostKnowsLater: a host that was asked to join says that it has heard of a later term.
//
// Whoever is in an earlier term is either deposed, or the log has lost the later one.
// A record that is appended from here on and comes back in its place tells the two
// apart: the later claim was in the log before the host could hear of it.
type HostKnowsLater struct {
	Boot string
	Seen TermSeen
}

func (in *HostKnowsLater) decide(c *Core) {
	if in.Seen.Epoch <= c.epoch || c.isLost(in.Boot) {
		return // asked in this term the host has answered, or will never
	}
	c.emit(&alive{})
	c.effect(Effect{Kind: LostTerm, Boot: in.Boot, Msg: &TermLost{c.cfg.Partition, c.epoch, in.Seen}})
}

// TermLost tells a host that the log of a partition holds no later term than Epoch:
// the one that the host has seen was lost with the end of the log.
type TermLost struct {
	Partition uint16
	Epoch     uint64
	Seen      TermSeen
}

// Obeyed tells whether a host that has seen as much may go back to the earlier term,
// once nothing runs or is active there of what the log has lost. When the host has
// answered an owner meanwhile, that one is of a later time than this message.
func (m *TermLost) Obeyed(seen TermSeen) bool { return m.Seen == seen && m.Epoch < seen.Epoch }
