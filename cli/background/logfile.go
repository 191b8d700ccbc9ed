package background

import (
	"io"
	"os"
	"sync"
)

// logLimit is the size at which the log file is put aside.
const logLimit = 8 << 20

// OpenLog opens the log file to append to; a large one becomes FILE.1 first.
func OpenLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() >= logLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// RotatingLog is a log file that puts itself aside when it is large, so that
// at most two files of about 8 MiB exist.
type RotatingLog struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
}

var _ io.WriteCloser = (*RotatingLog)(nil)

// NewRotatingLog opens the file.
func NewRotatingLog(path string) (*RotatingLog, error) {
	f, err := OpenLog(path)
	if err != nil {
		return nil, err
	}
	l := &RotatingLog{path: path, file: f}
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
	return l, nil
}

// Write never splits one write over two files. When putting aside fails the
// old file grows on: a log line is worth more than its limit.
func (l *RotatingLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > logLimit && l.size > 0 {
		if os.Rename(l.path, l.path+".1") == nil {
			if f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				_ = l.file.Close()
				l.file, l.size = f, 0
			}
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *RotatingLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
