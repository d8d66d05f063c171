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

// repairLine is what a server logs when it has repaired lanes.
const repairLine = "lanes repaired"

// replica is one of the servers, or the only one, through all its lives.
type replica struct {
	*crash
	number    int                        // from 1
	url       string                     // of the database, as it sees it
	proxy     *proxy                     // to PostgreSQL
	disturbed atomic.Bool                // it has a fault
	began     time.Time                  // its last start
	pid       atomic.Int64               // of its last process
	life      atomic.Pointer[lab.Server] // nil while it is down
	logs      []*lab.Log                 // of all its lives
}

// newReplica prepares a server, with a proxy to the database if that is PostgreSQL.
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
	u.RawQuery += "&application_name=" + application(number)
	r.url = u.String()
	return r, nil
}

// application is the name by which the database knows a server.
func application(number int) string { return fmt.Sprintf("replica-%d", number) }

// launch starts a server on a database.
func (c *crash) launch(ctx context.Context, url string) (*lab.Server, error) {
	schedule, timeout := "AGENTEVENTS_RETRY_SCHEDULE="+retrySchedule, "AGENTEVENTS_TIMEOUT="+attemptTimeout.String()
	if c.single() {
		timeout = "AGENTEVENTS_TIMEOUT=1m" // only its end ends what receivers hold
	}
	return lab.Start(context.WithoutCancel(ctx), c.binary, url, schedule, timeout, "AGENTEVENTS_LOG_LEVEL=debug")
}

// start starts it. While the database has a fault a start may fail, and is tried again.
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
			r.life.Store(s)
			return nil
		}
		err = errors.Join(s.Explain(err), ignoreEnd(s.Kill()))
		if ctx.Err() != nil || !r.timeline.disturbed(everyServer, r.began, everything) {
			return fmt.Errorf("server %d: %w", r.number, err)
		}
		if err := lab.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// ignoreEnd is for a server that may have ended by itself.
func ignoreEnd(err error) error {
	if errors.Is(err, lab.ErrEnded) {
		return nil
	}
	return err
}

// kill is kill -9.
func (r *replica) kill(ctx context.Context) error {
	s := r.life.Swap(nil)
	return errors.Join(s.Explain(s.Kill()), r.gone(ctx))
}

// stop stops it in order. Without a database it cannot write what it has counted, and reports that by its exit code.
func (r *replica) stop(ctx context.Context) error {
	began := time.Now()
	err := r.life.Load().Stop()
	s := r.life.Swap(nil)
	if err != nil && !r.timeline.disturbed(r.number, began, everything) {
		return fmt.Errorf("server %d: %w", r.number, s.Explain(err))
	}
	return r.gone(ctx)
}

// gone waits until everything is noted that the only server has sent, and verifies its store now and then.
func (r *replica) gone(ctx context.Context) error {
	if !r.single() {
		return nil
	}
	err := r.settle(ctx)
	if err == nil && len(r.logs)%10 == 0 {
		err = r.verify(ctx, r.url)
	}
	return err
}

// checkLogs notes what servers should never print: repairs of lanes that were not damaged on purpose, and errors other
// than those of the database.
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

// log is what it printed in all its lives.
func (r *replica) log() string {
	var s strings.Builder
	for i, l := range r.logs {
		fmt.Fprintf(&s, "life %d:\n%s\n", i+1, l)
	}
	return s.String()
}

// verify has the program look through a database that no server has.
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

// database is where the servers store everything: a SQLite file, or a database on PostgreSQL. A SQLite file is read
// only while no server has it.
type database struct {
	*sql.DB
	url       string
	cluster   *pgtest.Cluster // nil if the server is not ours
	exclusive sync.Mutex      // is held while a fault is injected into it
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

// alone injects a fault while no other one is injected into the database.
func (d *database) alone(inject func() error) error {
	d.exclusive.Lock()
	defer d.exclusive.Unlock()
	return inject()
}

// proxy is the network between a server and the database. It can withhold what goes through, unnoticed by both.
type proxy struct {
	listener net.Listener
	target   string       // HOST:PORT of the database
	gate     sync.RWMutex // is held for writing while nothing goes through
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

// connect carries what is sent over a connection, until either side ends it.
func (p *proxy) connect(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.target) //nolint:noctx // on this machine
	if err != nil {
		return
	}
	defer far.Close()
	ended := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(gated{to, &p.gate}, from)
		ended <- struct{}{}
	}
	go carry(near, far)
	go carry(far, near)
	<-ended
}

// gated is a connection to which only an open gate lets anything through.
type gated struct {
	io.Writer
	gate *sync.RWMutex
}

func (g gated) Write(text []byte) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Writer.Write(text)
}

// owner returns the number of the server that has made a connection, as an *atomic.Int32: it is 0 until that is known,
// and always on a machine without proc(5).
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

// socketOf is what a file descriptor of the socket at the other end of a connection links to.
func socketOf(conn net.Conn) string {
	port := func(a net.Addr) uint64 { return uint64(netip.MustParseAddrPort(a.String()).Port()) }
	proc, _ := procfs.NewDefaultFS()
	sockets, _ := proc.NetTCP() //nolint:staticcheck // what replaces it is another dependency
	for _, s := range sockets {
		if s.LocalPort == port(conn.RemoteAddr()) && s.RemPort == port(conn.LocalAddr()) {
			return fmt.Sprintf("socket:[%d]", s.Inode)
		}
	}
	return ""
}

// senderOf is which server has sent a request, 0 if that is not known.
func senderOf(a *lab.Arrival) int {
	if number, ok := a.Peer.(*atomic.Int32); ok {
		return int(number.Load())
	}
	return 0
}
