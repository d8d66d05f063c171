package mapped

// #include "mapped_linux.h"
import "C"

import (
	"fmt"

	_ "github.com/mattn/go-sqlite3" // SQLite itself
)

func init() {
	if rc := C.mapped_begin(); rc != 0 {
		panic(fmt.Sprintf("SQLite takes no file system: code %d", rc))
	}
	From(Least)
}

// From sets from how many bytes on files are read through their mappings, in this process, and returns what that was; Least
// unless told.
func From(bytes int64) (before int64) { return int64(C.mapped_least(C.int64_t(bytes))) }
