package vfs

// #include "vfs_linux.h"
import "C"

import (
	"fmt"

	_ "github.com/mattn/go-sqlite3" // SQLite itself
)

func init() {
	if rc := C.vfs_begin(); rc != 0 {
		panic(fmt.Sprintf("SQLite takes no file system: code %d", rc))
	}
	MapFrom(Least)
}

// MapFrom sets from how many bytes on files are read through their mappings, in this process, and returns what that was;
// Least unless told.
func MapFrom(bytes int64) (before int64) { return int64(C.vfs_map_from(C.int64_t(bytes))) }
