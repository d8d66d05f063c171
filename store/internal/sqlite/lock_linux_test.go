package sqlite

import (
	"os"
	"strings"
	"testing"
)

func TestSecondProcessIsRefusedWithoutTheLockFile(t *testing.T) {
	f := openTestFile(t)
	check(t, os.Remove(f.path+lockSuffix))
	_, err := tryOpen(t, f.path)
	if err == nil || !strings.Contains(err.Error(), "another process serves this database") {
		t.Errorf("the error is %v", err)
	}
}
