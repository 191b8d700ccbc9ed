package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/karmesh/kar/runtime"
)

// fault turns an error of the file system or of Pebble into one with a code;
// doing is what was tried, such as "open the view in /x/view".
func fault(doing string, err error) error {
	if err == nil {
		return nil
	}
	if coded := (*runtime.Error)(nil); errors.As(err, &coded) {
		return err
	}
	code := runtime.CodeInternal
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code = runtime.CodeDiskFull
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code = runtime.CodeReadOnly
	case pebble.IsCorruptionError(err), errors.Is(err, pebble.ErrDBDoesNotExist), errors.Is(err, fs.ErrNotExist):
		code = runtime.CodeDamaged
	}
	return runtime.Errorf(code, "cannot %s: %v", doing, err)
}

func isFull(err error) bool {
	coded := (*runtime.Error)(nil)
	return errors.As(err, &coded) && coded.Code == runtime.CodeDiskFull
}

// damaged names the file and what is wrong with it.
func damaged(file, format string, args ...any) error {
	return runtime.Errorf(runtime.CodeDamaged, "%s is damaged: %s", file, fmt.Sprintf(format, args...))
}

func closed() error {
	return runtime.Errorf(runtime.CodeShutdown, "the state folder is closed")
}
