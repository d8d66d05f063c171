package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// inode is the other end of a connection on loopback, by the number that Linux knows its socket by. It is empty where it
// cannot be found, as on other systems.
func inode(c net.Conn) string {
	here, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return ""
	}
	there, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return ""
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	local, remote := fmt.Sprintf(":%04X", there.Port()), fmt.Sprintf(":%04X", here.Port())
	for line := range strings.Lines(string(table)) {
		field := strings.Fields(line) // see proc(5)
		if len(field) > 9 && strings.HasSuffix(field[1], local) && strings.HasSuffix(field[2], remote) {
			return field[9]
		}
	}
	return ""
}

// holds says whether a process has a socket open.
func holds(pid int, inode string) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return false
	}
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}
