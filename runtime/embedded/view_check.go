package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/karmesh/kar/runtime"
)

// A position is up to where the view must reach, since a journal was trimmed
// or promised to be kept in the view up to there.
type position struct {
	key []byte
	of  string // for people
	min uint64
	max uint64 // the end of the journal
}

// checkBytes is how much of the view is read and checksummed before it is
// used. What is beyond is checked block by block when it is read, which then
// fails with the same code.
const checkBytes = 64 << 20

// checkView looks at the database without changing anything. It has to be done
// here: a damaged list of files reads to Pebble like one that ends there, so it
// would open an older state, and remove the files that this state does not know.
func checkView(fs vfs.FS, dir string, logger *slog.Logger, positions []position) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged(dir, "%v", p)
		}
	}()
	opts := viewOptions(fs, logger, func(error) {})
	opts.ReadOnly = true
	opts.ErrorIfNotExists = true
	opts.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return damage(dir, fault("open the view in "+dir, err))
	}
	defer func() {
		if cerr := db.Close(); err == nil && cerr != nil {
			err = damage(dir, fault("close the view in "+dir, cerr))
		}
	}()
	if err := checkTables(fs, dir, db); err != nil {
		return err
	}
	for _, p := range positions {
		at, err := number(db, p.key)
		if err != nil {
			return damage(dir, err)
		}
		if at < p.min || at > p.max {
			return damaged(dir, "it holds %s up to record %d, not to one from %d to %d", p.of, at, p.min, p.max)
		}
	}
	return nil
}

// damage turns an error without a better code into damage: the folder was
// whole once, so what cannot be opened now has changed.
func damage(file string, err error) error {
	var coded *runtime.Error
	if errors.As(err, &coded) && coded.Code == runtime.CodeInternal {
		return damaged(file, "%s", coded.Detail)
	}
	return err
}

func checkTables(fs vfs.FS, dir string, db *pebble.DB) error {
	levels, err := db.SSTables()
	if err != nil {
		return damage(dir, fault("list the files in "+dir, err))
	}
	left := int64(checkBytes)
	for _, level := range levels {
		for _, table := range level {
			if left -= int64(table.Size); left < 0 {
				return nil
			}
			path := fs.PathJoin(dir, fmt.Sprintf("%06d.sst", uint64(table.BackingSSTNum)))
			if err := checkTable(fs, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkTable(fs vfs.FS, path string) error {
	file, err := fs.Open(path)
	if err != nil {
		return fault("open "+path, err)
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		file.Close()
		return fault("read "+path, err)
	}
	reader, err := sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{Comparer: pebble.DefaultComparer})
	if err != nil {
		return damage(path, fault("read "+path, err))
	}
	defer reader.Close()
	return damage(path, fault("read "+path, reader.ValidateBlockChecksums()))
}
