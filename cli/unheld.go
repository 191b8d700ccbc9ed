package cli

import (
	"syscall"
	"time"
)

// deniedHint is for commands that become another user.
const deniedHint = "run kar as that user: `sudo -u USER kar run … -- COMMAND`, not `kar run … -- sudo COMMAND`"

// A heldTree is a command's, of which all processes should be in our hands.
type heldTree interface {
	Unheld() (pid int, err error)
	Done() <-chan struct{}
}

// heldEvery is how often the tree is looked at.
const heldEvery = 5 * time.Second

// watchHeld says, once, that a process of the component has come out of our hands, as
// one does that becomes another user after it began to listen. Who is seen in one look
// only, as a short sudo of the component's, is not worth a word: the end of the tree is
// reported only when nothing is left of it.
func (s *sidecar) watchHeld(tree heldTree, look <-chan time.Time) {
	last := -1
	for {
		select {
		case <-tree.Done():
			return
		case <-s.ctx.Done():
			return
		case <-look:
		}
		pid, err := tree.Unheld()
		switch {
		case err == nil:
			last = -1
		case pid == last:
			s.deniedOnce.Do(func() {
				s.log.Error("not all of the component can be stopped: work in it that is lost is tried again when the lease is over, perhaps beside its first attempt", "cause", err, "hint", deniedHint)
			})
		default:
			last = pid
		}
	}
}

// beyond says that the end of the command waits for what cannot be killed.
func (s *sidecar) beyond(what string, limit time.Duration) {
	s.log.Error("not all of the component could be killed; its end is waited for", "cause", what, "for", limit, "hint", deniedHint)
}

// leaves says that something runs on when this process is gone. It keeps the end from
// being reported as a proof.
func (s *sidecar) leaves(what string) {
	s.log.Error("this process ends and leaves behind what it cannot kill: work that runs there is tried again when the lease is over, perhaps beside its first attempt", "cause", what)
	s.host.Unguarded()
}

// stopped says that the component stands still, which nobody else would see: calls to it wait.
func (s *sidecar) stopped(sig syscall.Signal) {
	hint := "continue it: kill -CONT, sent to this process"
	if sig == syscall.SIGTTIN || sig == syscall.SIGTTOU {
		hint = "it uses the terminal and does not have it: bring `kar run` to the foreground (fg), or start it with </dev/null"
	}
	s.log.Error("the component was stopped and stands still", "signal", sig, "hint", hint)
}
