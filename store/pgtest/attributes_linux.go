package pgtest

import "syscall"

// attributes let a program run as a user (nil: this one), be spared by a Ctrl-C at the terminal, and die at once with
// the process that started it.
func attributes(user *credential) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if user != nil {
		a.Credential = &syscall.Credential{Uid: user.uid, Gid: user.gid}
	}
	return a
}
