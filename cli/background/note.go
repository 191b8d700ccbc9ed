package background

import (
	"encoding/json"
	"os"
)

// A Note is what a running gateway writes into its state folder. It is a hint:
// whether the gateway lives is decided by its socket.
type Note struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	// Socket may differ from Place.Socket: the gateway may have been started
	// with another XDG_RUNTIME_DIR, from cron for example.
	Socket  string `json:"socket"`
	Started string `json:"started"` // RFC 3339
}

// ReadNote returns the zero Note when there is none.
func (p Place) ReadNote() (n Note) {
	b, err := os.ReadFile(p.noteFile())
	if err == nil {
		_ = json.Unmarshal(b, &n)
	}
	return n
}

// WriteNote replaces the note in one step.
func (p Place) WriteNote(n Note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	tmp := p.noteFile() + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return folderError(p.Dir, err)
	}
	return os.Rename(tmp, p.noteFile())
}

// RemoveNote takes away the note of the gateway with this pid.
func (p Place) RemoveNote(pid int) {
	if p.ReadNote().PID == pid {
		_ = os.Remove(p.noteFile())
	}
}
