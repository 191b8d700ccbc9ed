package guard

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// orders go from the sidecar to the guard, one JSON object each.
type order struct {
	Op     string `json:"op"` // one of the op constants
	Signal int    `json:"signal,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Until ends the host's lease, in nanoseconds of the boot-time clock; 0
	// means that no lease is in force.
	Until int64      `json:"until,omitempty"`
	Start *startSpec `json:"start,omitempty"`
	// Foreground, with opContinue, replaces that of the start.
	Foreground int `json:"foreground,omitempty"`
}

const (
	opStart    = "start"    // start the command
	opSignal   = "signal"   // forward Signal to the command's process group
	opFreeze   = "freeze"   // stop the whole tree, answer with evFrozen
	opThaw     = "thaw"     // let the tree go on
	opKill     = "kill"     // kill the whole tree; evExited follows
	opLease    = "lease"    // the tree may run up to Until without another word
	opContinue = "continue" // the job was continued, in the foreground when Foreground is given
	opOutside  = "outside"  // the app is outside of the tree: its end is not to be reported
)

// startSpec is what the guard needs to know to start the command and to report its
// end. What the command gets is bytes: a JSON string would hold UTF-8 only.
type startSpec struct {
	Path []byte   `json:"path"`
	Args [][]byte `json:"args"` // with the command's own name first
	Env  [][]byte `json:"env"`
	// Foreground is the process group that owns the terminal on stdin and gives
	// it to the command; 0 when there is no terminal to hand over.
	Foreground int `json:"foreground,omitempty"`
	// DeniedFor is how long the end of what cannot be killed is waited for.
	DeniedFor time.Duration `json:"deniedFor"`
	// Gateway and Boot are for the report when the sidecar is dead.
	Gateway Gateway `json:"gateway"`
	Boot    string  `json:"boot,omitempty"`
}

func bytesOf(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

func textsOf(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

// events go from the guard to the sidecar.
type event struct {
	Event  string `json:"event"` // one of the ev constants
	PID    int    `json:"pid,omitempty"`
	Code   int    `json:"code,omitempty"`
	Signal int    `json:"signal,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Left says what of the tree is left, "" when nothing is.
	Left string `json:"left,omitempty"`
}

const (
	evStarted = "started" // PID is the command and its process group
	evFailed  = "failed"  // the command could not be started: Code is the exit code, Detail says why
	evFrozen  = "frozen"  // the whole tree is stopped, or Detail says what runs on
	evStopped = "stopped" // the command was stopped, and not by the guard: Signal says by what
	evBeyond  = "beyond"  // Detail says what is left and cannot be killed; its end is waited for
	evExited  = "exited"  // the command has ended and nothing of its tree but Left is left
)

// a pipe writes messages of one kind and reads those of the other.
type pipe struct {
	mu  sync.Mutex
	enc *json.Encoder
	dec *json.Decoder
}

func newPipe(rw io.ReadWriter) *pipe {
	return &pipe{enc: json.NewEncoder(rw), dec: json.NewDecoder(rw)}
}

// send ignores errors: a broken pipe is noticed by the reader.
func (p *pipe) send(m any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.enc.Encode(m)
}
