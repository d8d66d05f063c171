package fault

// #include <stdlib.h>
// #include "fault_linux.h"
import "C"

import (
	"syscall"
	"unsafe"

	_ "github.com/agentevents/agentevents/store/vfs" // after which SQLite is there
)

// Arm has the rule apply, and no other, until the function that it returns is called.
func Arm(r Rule) (disarm func()) {
	suffix := C.CString(r.Suffix)
	defer C.free(unsafe.Pointer(suffix))
	if C.fault_arm(suffix, number(r.Reads), number(r.Writes), C.int64_t(r.From)) != 0 {
		panic("SQLite takes no system calls")
	}
	return func() { C.fault_disarm() }
}

func number(e syscall.Errno) C.int { return C.int(e) }
