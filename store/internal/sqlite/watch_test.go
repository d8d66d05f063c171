package sqlite

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestLostFileTakesNoWritesUntilItIsBack(t *testing.T) {
	for _, suffix := range suffixes() {
		for what, lose := range map[string]func(name string) error{
			"removed": func(name string) error { return os.Rename(name, name+".away") },
			"replaced": func(name string) error {
				return errors.Join(os.Rename(name, name+".away"), os.WriteFile(name, nil, 0o600))
			},
		} {
			t.Run(what+" db"+suffix, func(t *testing.T) {
				f := openTestFile(t)
				name := f.path + suffix
				f.wantWritable(true, "at first")
				check(t, lose(name))
				committed := suffix == shmSuffix || suffix == lockSuffix
				if err := f.CheckCommit(); (err == nil) != committed {
					t.Errorf("CheckCommit returns %v", err)
				}
				err := f.CheckWritable()
				if !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "was "+what) || f.LostFile() == nil {
					t.Errorf("the error is %v, and LostFile returns %v", err, f.LostFile())
				}
				check(t, os.Rename(name+".away", name))
				f.wantWritable(true, "when it is back")
				if f.LostFile() != nil || f.lines("level=ERROR") != 1 || f.lines("file is back") != 1 {
					t.Errorf("LostFile returns %v; the log: %s", f.LostFile(), &f.log)
				}
			})
		}
	}
}

func TestTruncatedFileIsNoticedThoughItsLogHasPages(t *testing.T) {
	f := openTestFile(t)
	f.write(4_000_000)
	_, err := f.Checkpoint()
	check(t, err, f.CheckFiles(t.Context()))
	f.write(100)
	check(t, os.Truncate(f.path, f.size()/2))
	if err := f.CheckFiles(t.Context()); !errors.Is(err, errTruncated) {
		t.Errorf("the error is %v", err)
	}
	f.wantWritable(false, "also without a check of its pages")
	f.close.Do(func() { // the close fails
		_, _, _ = f.CloseWriter(), f.Close(), f.Unlock()
	})
}
