package pgtest

import "syscall"

// attributes starts a program as a user (nil means the current one), out of reach of a Ctrl-C at the terminal. The
// program ends at once when the process that started it ends.
func attributes(user *credential) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if user != nil {
		a.Credential = &syscall.Credential{Uid: user.uid, Gid: user.gid}
	}
	return a
}
