package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A silentLog answers nothing until it is mended.
type silentLog struct {
	runtime.Log
	mended <-chan struct{}
	silent func() bool
}

func (l *silentLog) wait(ctx context.Context) error {
	if !l.silent() {
		return nil
	}
	select {
	case <-l.mended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *silentLog) Bounds(ctx context.Context) (start, end uint64, err error) {
	if err := l.wait(ctx); err != nil {
		return 0, 0, err
	}
	return l.Log.Bounds(ctx)
}

func (l *silentLog) Read(ctx context.Context, from uint64, visit func(uint64, []byte) error) error {
	if err := l.wait(ctx); err != nil {
		return err
	}
	return l.Log.Read(ctx, from, visit)
}

func (l *silentLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if err := l.wait(ctx); err != nil {
		return 0, 0, &runtime.UnknownError{Cause: err}
	}
	return l.Log.Append(ctx, batch)
}

// A gateway dies while more of its logs than are taken at a time do not answer:
// its other partitions are taken all the same, and these when they answer again.
func TestLogsWithoutAnAnswerKeepNoTurn(t *testing.T) {
	const parts, most = 64, 12
	for name, reads := range map[string]bool{"claims": false, "reads": true} {
		t.Run(name, func(t *testing.T) {
			r := newMeshRig(t, parts)
			stuck := map[uint16]bool{}
			mended := make(chan struct{})
			over := false
			mend := func() {
				if !over {
					over = true
					close(mended)
				}
			}
			broken := make(chan struct{})
			a := r.open("a", func(cfg *engine.Config) {
				logs := cfg.Logs
				cfg.Logs = func(p uint16) (runtime.Log, error) {
					l, err := logs(p)
					return &silentLog{l, mended, func() bool {
						select {
						case <-broken:
							return reads && stuck[p]
						default:
							return false
						}
					}}, err
				}
			})
			t.Cleanup(mend)
			b := r.open("b")
			spread(t, a, b)
			for p, o := range a.Owners() {
				if o == "b" && len(stuck) < most {
					stuck[uint16(p)] = true
				}
			}
			if len(stuck) < most {
				t.Fatalf("b owns %d partitions only", len(stuck))
			}
			close(broken)
			if !reads {
				for p := range stuck {
					l := r.logs[p]
					l.mu.Lock()
					l.fault = func(string, bool) error {
						select {
						case <-mended:
							return nil
						default:
							return &runtime.UnknownError{Cause: errors.New("no answer")}
						}
					}
					l.mu.Unlock()
				}
			}
			delete(r.nodes, "b")
			go b.Close()
			eventually(t, "all others have an owner", func() bool { return owners(a)["a"] == parts-most })
			mend()
			eventually(t, "all have an owner", func() bool { return owners(a)["a"] == parts })
		})
	}
}
