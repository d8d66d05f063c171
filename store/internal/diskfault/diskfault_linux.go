package diskfault

// #include <stdlib.h>
// #include "diskfault_linux.h"
import "C"

import (
	"unsafe"

	_ "github.com/mattn/go-sqlite3" // links SQLite
)

// Arm activates the rule, in place of an earlier one, until disarm is called.
func Arm(r Rule) (disarm func()) {
	suffix := C.CString(r.Suffix)
	defer C.free(unsafe.Pointer(suffix))
	if C.diskfault_arm(suffix, C.int(r.Writes), C.int64_t(r.From)) != 0 {
		panic("SQLite does not accept system calls")
	}
	return func() { C.diskfault_disarm() }
}
