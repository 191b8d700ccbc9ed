package kafka

import (
	"context"
	"errors"

	"github.com/karmesh/kar/runtime"
)

type topics struct{ c *Cluster }

func newTopics(c *Cluster) *topics { return &topics{c: c} }

func (t *topics) shut() {}

var errLater = errors.New("not built yet")

func (t *topics) Create(context.Context, string) (bool, error)                  { return false, errLater }
func (t *topics) Delete(context.Context, string) (bool, error)                  { return false, errLater }
func (t *topics) List(context.Context) ([]string, error)                        { return nil, errLater }
func (t *topics) Publish(context.Context, string, runtime.Event) (int64, error) { return 0, errLater }
func (t *topics) Bounds(context.Context, string) (int64, int64, error)          { return 0, 0, errLater }
func (t *topics) Fetch(context.Context, string, int64, int) ([]runtime.Event, error) {
	return nil, errLater
}
func (t *topics) Close() error { return nil }
