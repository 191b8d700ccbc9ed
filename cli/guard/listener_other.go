//go:build !linux

package guard

// ForeignListener is not known here.
func (c *Child) ForeignListener(int) (pid int) { return 0 }

// ListensOutside is not known here.
func (c *Child) ListensOutside(int) bool { return false }

// witness sees nothing here.
type witness struct{}

// Meet is not possible here.
func (c *Child) Meet(int) {}

// Answers is not known here.
func (c *Child) Answers(int, int) (lived func() (yes, known bool)) {
	return func() (yes, known bool) { return false, false }
}

// Programs is not known here.
func (c *Child) Programs(int) (replaced func() (yes, known bool)) {
	return func() (yes, known bool) { return false, false }
}

// Backlog is not known here.
func Backlog(int) (waiting, most int, known bool) { return 0, 0, false }
