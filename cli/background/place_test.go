package background

import (
	"errors"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestStateFolderIsText: a path that the note cannot hold is refused at once.
func TestStateFolderIsText(t *testing.T) {
	_, err := At("/tmp/\xff\xfe", func(string) string { return "" })
	var coded *runtime.Error
	if !errors.As(err, &coded) || coded.Code != runtime.CodeBadConfig {
		t.Errorf("got %v", err)
	}
	if _, err := At("/tmp/ä b", func(string) string { return "" }); err != nil {
		t.Error(err)
	}
}
