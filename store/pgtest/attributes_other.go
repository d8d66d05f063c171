//go:build !linux

package pgtest

import "syscall"

// attributes let a program run as a user (nil: this one) and be spared by a Ctrl-C at the terminal. Only Linux can end
// it with the process that started it.
func attributes(user *credential) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if user != nil {
		a.Credential = &syscall.Credential{Uid: user.uid, Gid: user.gid}
	}
	return a
}
