//go:build !linux

package pgtest

import "syscall"

// attributes starts a program as a user (nil means the current one), out of reach of a Ctrl-C at the terminal. Only
// Linux can end it together with the process that started it.
func attributes(user *credential) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if user != nil {
		a.Credential = &syscall.Credential{Uid: user.uid, Gid: user.gid}
	}
	return a
}
