package runtime

// Floor is the record in front of which the log may be cut, 0 when that is not known.
func (c *Core) Floor() uint64 { return c.floor }

// Front tells what is wrong with the front of a log that was folded to its end;
// records is whether it holds anything, or ever did. A log that was cut begins
// with a header in front of which it might be cut, which the headers behind say
// (floor); any other has lost what was live in front of that, and must not be
// taken for an empty one.
func (c *Core) Front(records bool) *Error {
	switch {
	case !c.sawHead && records:
		return Errorf(CodeDamaged, "the log has lost its front: it holds neither the first claim nor a header")
	case c.sawHead && c.head > c.floor:
		return Errorf(CodeDamaged, "the log has lost its front: it begins at record %d, and what is live was kept from record %d on", c.head, c.floor)
	case c.gap > 0:
		return Errorf(CodeDamaged, "the log lacks record %d, or it cannot be read", c.gap)
	}
	return nil
}
