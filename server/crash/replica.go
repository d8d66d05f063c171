package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// repairLine is the log line of a server that has repaired lanes.
const repairLine = "lanes repaired"

// replica is one of the servers, or on SQLite the only one, with all its processes.
type replica struct {
	*crash
	number    int                        // from 1
	url       string                     // of the database; on PostgreSQL, through the proxy
	proxy     *proxy                     // to PostgreSQL; nil on SQLite
	disturbed atomic.Bool                // it has a fault, or is reserved for one
	began     time.Time                  // start of the last process
	pid       atomic.Int64               // of the last process
	process   atomic.Pointer[lab.Server] // nil while it is down
	logs      []*lab.Log                 // of all processes
}

// newReplica returns a replica that is not started. On PostgreSQL, it has a proxy to the database.
func newReplica(c *crash, number int) (*replica, error) {
	r := &replica{crash: c, number: number, url: c.database.url}
	if c.single() {
		return r, nil
	}
	u, err := url.Parse(r.url)
	if err != nil {
		return nil, err
	}
	if r.proxy, err = newProxy(u.Host); err != nil {
		return nil, err
	}
	c.closers = append(c.closers, r.proxy.listener.Close)
	u.Host = r.proxy.listener.Addr().String()
	u.RawQuery += "&application_name=" + connectionName(number)
	r.url = u.String()
	return r, nil
}

// connectionName returns the application_name of a server's connections to PostgreSQL.
func connectionName(number int) string { return fmt.Sprintf("replica-%d", number) }

// launch starts a server on a database.
func (c *crash) launch(ctx context.Context, url string) (*lab.Server, error) {
	schedule, timeout := "AGENTEVENTS_RETRY_SCHEDULE="+retrySchedule, "AGENTEVENTS_TIMEOUT="+attemptTimeout.String()
	if c.single() {
		timeout = "AGENTEVENTS_TIMEOUT=1m" // requests that receivers hold must stay in flight until a kill
	}
	return lab.Start(context.WithoutCancel(ctx), c.binary, url, schedule, timeout, "AGENTEVENTS_LOG_LEVEL=debug")
}

// start starts a process and waits until it is ready. If that fails during a fault of the database, it tries again.
func (r *replica) start(ctx context.Context) error {
	for token := ""; ; {
		r.began = time.Now()
		s, err := r.launch(ctx, r.url)
		if err != nil {
			return err
		}
		r.pid.Store(int64(s.PID()))
		r.logs = append(r.logs, s.Log)
		if err = s.Ready(ctx); err == nil {
			token, err = lab.Token(&http.Client{Timeout: patience}, s.URL, lab.OperatorID, lab.OperatorSecret)
		}
		if err == nil {
			r.token.Store(&token)
			r.process.Store(s)
			return nil
		}
		err = errors.Join(s.Explain(err), ignoreEnded(s.Kill()))
		if ctx.Err() != nil || !r.timeline.disturbed(everyServer, r.began, anyRequest) {
			return fmt.Errorf("server %d: %w", r.number, err)
		}
		if err := lab.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// ignoreEnded returns nil for the error that a server had ended by itself.
func ignoreEnded(err error) error {
	if errors.Is(err, lab.ErrEnded) {
		return nil
	}
	return err
}

// kill kills the process (kill -9).
func (r *replica) kill(ctx context.Context) error {
	s := r.process.Swap(nil)
	return errors.Join(s.Explain(s.Kill()), r.checkEnded(ctx))
}

// stop stops the process in order. Without a database it cannot store its counts, and exits with an error.
func (r *replica) stop(ctx context.Context) error {
	began := time.Now()
	err := r.process.Load().Stop()
	s := r.process.Swap(nil)
	if err != nil && !r.timeline.disturbed(r.number, began, anyRequest) {
		return fmt.Errorf("server %d: %w", r.number, s.Explain(err))
	}
	return r.checkEnded(ctx)
}

// checkEnded waits until the receivers have recorded all requests of the only server, and verifies its store at each
// tenth process. With replicas, it does nothing.
func (r *replica) checkEnded(ctx context.Context) error {
	if !r.single() {
		return nil
	}
	err := r.settle(ctx)
	if err == nil && len(r.logs)%10 == 0 {
		err = r.verify(ctx, r.url)
	}
	return err
}

// checkLogs records lines that a server must not print: panics, more repairs of lanes than were damaged on purpose and,
// on SQLite, any error.
func (c *crash) checkLogs() {
	damaged := c.tally.of(laneDamaged)
	for _, r := range c.servers {
		for line := range strings.Lines(r.log()) {
			wrong := strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") ||
				strings.Contains(line, "level=ERROR") && r.single()
			if strings.Contains(line, repairLine) {
				damaged--
				wrong = damaged < 0
			}
			if wrong {
				r.record.Wrong(complaint, "server %d printed: %s", r.number, strings.TrimSpace(line))
			}
		}
	}
}

// log returns the logs of all processes.
func (r *replica) log() string {
	var s strings.Builder
	for i, l := range r.logs {
		fmt.Fprintf(&s, "process %d:\n%s\n", i+1, l)
	}
	return s.String()
}

// verify checks a database, which no server has open, by the command verify.
func (c *crash) verify(ctx context.Context, url string) error {
	cmd := exec.CommandContext(ctx, c.binary, "verify", "--database-url", url) //nolint:gosec // named by the user
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "ok ") {
			c.record.Wrong(complaint, "verify: %s", strings.TrimSpace(line))
		}
	}
	return nil
}

// database is a SQLite file or a PostgreSQL database. A SQLite file is used only while no server has it open.
type database struct {
	*sql.DB
	url       string
	cluster   *pgtest.Cluster // nil unless this program started the PostgreSQL server
	exclusive sync.Mutex      // held while a fault is injected into the database
}

func (c *crash) openDatabase(ctx context.Context) (err error) {
	d, driver, file := &c.database, "pgx", filepath.Join(c.dir, "agentevents.db")
	source := &d.url
	switch {
	case c.single():
		d.url, driver = "sqlite:"+file, "sqlite3"
		source = new("file:" + (&url.URL{Path: file}).EscapedPath() + "?mode=rw")
	case c.postgres != "":
		server := pgtest.At(c.postgres)
		d.url, err = server.Create(ctx)
		c.closers = append(c.closers, func() error { return server.Drop(context.WithoutCancel(ctx), d.url) })
	default:
		err = os.Chmod(c.dir, 0o755) //nolint:gosec // the server may run as another user
		if err == nil {
			d.cluster, err = pgtest.Start(ctx, pgtest.Options{
				Dir: filepath.Join(c.dir, "postgres"), Settings: map[string]string{"max_connections": "200"},
			})
		}
		if err == nil {
			c.closers = append(c.closers, d.cluster.Stop)
			d.url, err = d.cluster.Create(ctx)
		}
	}
	if err != nil {
		return err
	}
	d.DB, err = sql.Open(driver, *source)
	d.SetMaxIdleConns(0)
	c.closers = append(c.closers, d.Close)
	return err
}

// alone injects a fault into the database while no other is injected.
func (d *database) alone(inject func() error) error {
	d.exclusive.Lock()
	defer d.exclusive.Unlock()
	return inject()
}

// proxy is the network between a server and the database. It can hold back data without an error on either side.
type proxy struct {
	listener net.Listener
	target   string       // HOST:PORT of the database
	gate     sync.RWMutex // locked for writing while no data may pass
}

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target}
	go func() {
		for near, err := l.Accept(); err == nil; near, err = l.Accept() {
			go p.connect(near)
		}
	}()
	return p, nil
}

// connect copies data in both directions until either side ends the connection.
func (p *proxy) connect(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.target) //nolint:noctx // on this machine
	if err != nil {
		return
	}
	defer far.Close()
	ended := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(gated{to, &p.gate}, from)
		ended <- struct{}{}
	}
	go pipe(near, far)
	go pipe(far, near)
	<-ended
}

// gated is a writer that waits while the gate is locked for writing.
type gated struct {
	io.Writer
	gate *sync.RWMutex
}

func (g gated) Write(text []byte) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Writer.Write(text)
}

// owner returns the number of the server that made a connection, as an *atomic.Int32. It is 0 until the number is
// known, and always on a system without proc(5).
func (c *crash) owner(conn net.Conn) any {
	number := new(atomic.Int32)
	go func() {
		socket := socketOf(conn)
		for _, r := range c.servers {
			p, _ := procfs.NewProc(int(r.pid.Load()))
			if all, err := p.FileDescriptorTargets(); err == nil && slices.Contains(all, socket) {
				number.Store(int32(r.number)) //nolint:gosec // from 1 to 4
			}
		}
	}()
	return number
}

// socketOf returns the link target of the file descriptors of the socket at the other end of a connection.
func socketOf(conn net.Conn) string {
	port := func(a net.Addr) uint64 { return uint64(netip.MustParseAddrPort(a.String()).Port()) }
	proc, _ := procfs.NewDefaultFS()
	sockets, _ := proc.NetTCP() //nolint:staticcheck // its replacement is another dependency
	for _, s := range sockets {
		if s.LocalPort == port(conn.RemoteAddr()) && s.RemPort == port(conn.LocalAddr()) {
			return fmt.Sprintf("socket:[%d]", s.Inode)
		}
	}
	return ""
}

// senderOf returns the number of the server that sent a request, or 0 if it is unknown.
func senderOf(a *lab.Arrival) int {
	if number, ok := a.Peer.(*atomic.Int32); ok {
		return int(number.Load())
	}
	return 0
}
