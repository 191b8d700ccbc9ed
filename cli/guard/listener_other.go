//go:build !linux

package guard

// ForeignListener is not known here.
func (c *Child) ForeignListener(int) (pid int) { return 0 }
