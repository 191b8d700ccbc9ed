package parts

import (
	"os/exec"
	"testing"
)

// NeedProgram returns the path of a program of a Debian package, which is
// installed when it is missing and this process may do that. Where it cannot be
// had the test is skipped, and fails when CI=true.
func NeedProgram(t testing.TB, program, pkg string) string {
	t.Helper()
	err := programs(t.Context(), program, pkg)
	path, lookErr := exec.LookPath(program)
	if err == nil {
		err = lookErr
	}
	Need(t, program, err)
	return path
}
