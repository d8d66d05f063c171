package pgtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// debian matches Debian's directories of PostgreSQL outside PATH, one for each version.
const debian = "/usr/lib/postgresql/*/bin"

// binaries returns the directory of initdb and postgres: the newest one that matches a pattern …/VERSION/bin, else
// the one in PATH.
func binaries(pattern string) (string, error) {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	best, newest := "", -1
	for _, dir := range dirs {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && version > newest && complete(dir) {
			best, newest = dir, version
		}
	}
	if best != "" {
		return best, nil
	}
	return inPath()
}

func inPath() (string, error) {
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", ErrNone
	}
	if path, err = filepath.EvalSymlinks(path); err != nil || !complete(filepath.Dir(path)) {
		return "", ErrNone
	}
	return filepath.Abs(filepath.Dir(path))
}

func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// credential is a user of the operating system.
type credential struct{ uid, gid uint32 }

// unprivileged returns the user that runs the server; nil means the current one. PostgreSQL refuses root, so root uses
// another one.
func unprivileged() *credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return newCredential(u)
		}
	}
	return nil
}

func newCredential(u *user.User) *credential {
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		return nil
	}
	return &credential{uint32(uid), uint32(gid)}
}

// Ports that operating systems use neither for outgoing connections nor for common services, so that the port is still
// free at a restart.
const (
	firstPort = 15500
	ports     = 15000
)

// freePort returns a free port of 127.0.0.1.
func freePort(ctx context.Context) (port int, err error) {
	for range 100 {
		port = firstPort + rand.IntN(ports) //nolint:gosec // a port is no secret
		var l net.Listener
		l, err = new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
