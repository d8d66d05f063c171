package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// postgresEngine is a database that any number of processes share.
type postgresEngine struct {
	store *Store
	db    *postgres.DB // nil until it is open
}

func (e *postgresEngine) open(ctx context.Context, s *Store) (err error) {
	e.store = s
	if e.db, err = postgres.Open(ctx, postgres.Options{URL: s.URL, Alongside: s.alongside}); err != nil {
		return err
	}
	log := newStatementLog(s.Log)
	writers, err := postgres.ORM(postgres.Queued(e.db.Writers()), log)
	if err != nil {
		return err
	}
	clock := s.databaseClock()
	s.writes = postgres.NewWriter(writers, clock, unavailableError)
	if s.reader, err = postgres.ORM(e.db.Readers(), log); err != nil {
		return err
	}
	if err := clock.Read(s.read(ctx)); err != nil {
		return err
	}
	if !s.alongside {
		s.joinPeers(e.db)
	}
	if s.copying {
		return nil
	}
	return checkComplete(s.read(ctx)) // no copy begins while a process of the store listens
}

// databaseClock has all times come from the database's clock, unless the store was given one.
func (s *Store) databaseClock() *postgres.Clock {
	if s.Now != nil {
		return nil
	}
	c := &postgres.Clock{}
	s.Now = c.Now
	return c
}

func (e *postgresEngine) close() error {
	if e.db == nil {
		return nil
	}
	return e.db.Close()
}

func (e *postgresEngine) unlock() error { return nil }

// openVerifier implements engine. The server may be a standby.
func (e *postgresEngine) openVerifier(databaseURL string) (*sql.DB, error) {
	return postgres.OpenVerifier(databaseURL)
}

func (e *postgresEngine) checkSchema(ctx context.Context, db *sql.DB) error {
	return postgres.CheckSchema(ctx, db)
}

func (e *postgresEngine) orm(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return postgres.ORM(pool, log)
}

func (e *postgresEngine) rules() []rule                    { return rules }
func (e *postgresEngine) servesAlone() bool                { return false }
func (e *postgresEngine) checkWritable() error             { return nil }
func (e *postgresEngine) checkFiles(context.Context) error { return nil }
func (e *postgresEngine) fileStats() FileStats             { return FileStats{} }
func (e *postgresEngine) maintain(context.Context) error   { return nil }
func (e *postgresEngine) shrink(context.Context) error     { return nil } // it does so itself

// allocate implements engine. It needs new pages, and the commit that follows needs the log, although the rows are
// rolled back. It takes no lock that a reader or another process waits for. Rows of a rolled back savepoint are removed
// by vacuum whatever other transactions still read.
func (e *postgresEngine) allocate(tx *sqldb.Tx, _ int64) error {
	return errors.Join(tx.Queue("SAVEPOINT room"),
		tx.Queue("INSERT INTO probe_room (filler) SELECT repeat('x', 7000) FROM generate_series(1, 2)"),
		tx.Queue("ROLLBACK TO SAVEPOINT room"))
}

func (e *postgresEngine) eraseOverwritten(context.Context) error { return nil }

func (e *postgresEngine) overwrite(_ *sqldb.Tx, fn func() error) error { return fn() }

func (e *postgresEngine) dueLanesSQL() string { return postgresDueLanesSQL }

// changeNumbers are the sequence numbers of status changes.
const changeNumbers = postgres.Sequence("status_changes_id_seq")

func (e *postgresEngine) announceNumbers(tx *sqldb.Tx) error {
	return tx.Queue(changeNumbers.AnnounceSQL())
}

func (e *postgresEngine) visibleUpTo(ctx context.Context) (int64, error) {
	return changeNumbers.VisibleUpTo(e.store.read(ctx))
}

const (
	notifyEvery       = 5 * time.Millisecond // at most, since each takes a lock of the whole server
	maxMessageClients = 100                  // that a message names
)

// peers are the other processes that serve a PostgreSQL database. They send each other messages about changes that
// requests or senders may wait for. A message that is lost does no harm: every process looks by itself, every second.
type peers struct {
	store *Store
	db    *postgres.DB
	name  string // of this process
	seen  int64  // sequence number up to which lookForChanges has looked
	log   *slog.Logger
	stop  func()
	done  sync.WaitGroup

	mu      sync.Mutex
	message peerMessage   // that is sent next
	ready   chan struct{} // there is something to send
}

// peerMessage is what peers send each other.
type peerMessage struct {
	Clients []string `json:"clients,omitempty"` // whose agents have changed
	All     bool     `json:"all,omitempty"`     // agents of any client may have
	Due     bool     `json:"due,omitempty"`     // more lanes are due than the sender has room for
	From    string   `json:"from"`              // the name of the sender
}

// joinPeers begins to send and receive messages. When it returns, the database is known to be served, unless the
// connection failed; then it is tried again.
func (s *Store) joinPeers(db *postgres.DB) {
	ctx, stop := context.WithCancel(context.Background())
	p := &peers{store: s, db: db, name: rand.Text(), log: s.Log, stop: stop, ready: make(chan struct{}, 1)}
	attempted := make(chan struct{})
	p.done.Go(func() {
		db.Listen(ctx, postgres.Listener{
			Log:       s.Log,
			Attempted: func() { close(attempted) },
			Connected: func() { s.received(peerMessage{All: true, Due: true}) },
			Received:  p.receive,
		})
	})
	p.done.Go(func() { p.sendAll(ctx) })
	s.peers = p
	<-attempted
}

func (p *peers) close() {
	p.stop()
	p.done.Wait()
}

// send adds something to the message that is sent next. On SQLite there are no peers.
func (p *peers) send(add func(m *peerMessage)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	add(&p.message)
	p.mu.Unlock()
	signal(p.ready)
}

// addClient adds a client whose agents have changed.
func (m *peerMessage) addClient(client string) {
	if slices.Contains(m.Clients, client) {
		return
	}
	if m.All = m.All || len(m.Clients) == maxMessageClients; m.All {
		m.Clients = nil
		return
	}
	m.Clients = append(m.Clients, client)
}

func (p *peers) drain() (m peerMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, p.message = p.message, peerMessage{}
	return m
}

// sendAll sends messages, outside of any transaction of a change.
func (p *peers) sendAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.ready:
		}
		m := p.drain()
		m.From = p.name
		text, _ := json.Marshal(m)
		err := p.db.Notify(ctx, string(text))
		if err != nil && ctx.Err() == nil {
			p.log.Warn("tell the other processes", "error", err)
		}
		pause(ctx, notifyEvery)
	}
}

// receive reads a message. Those of this process come back to it.
func (p *peers) receive(payload string) {
	var m peerMessage
	if json.Unmarshal([]byte(payload), &m) == nil && m.From != p.name {
		p.store.received(m)
	}
}

// received wakes all that waits here for what a message says.
func (s *Store) received(m peerMessage) {
	for _, client := range m.Clients {
		s.feeds.announce(client)
	}
	if m.All {
		s.feeds.announceAll()
	}
	if m.Due {
		s.wake()
	}
}

// maxChangesSeen is how many changes lookForChanges looks at one by one.
const maxChangesSeen = 10_000

// lookForChanges wakes the requests that wait for changes of clients that have some: a message of a peer may be lost.
// One look is for all requests.
func (s *Store) lookForChanges(ctx context.Context) error {
	upTo, err := s.engine.visibleUpTo(ctx)
	seen := s.peers.seen
	if err != nil || upTo <= seen {
		return publicError(err)
	}
	m := peerMessage{All: upTo-seen > maxChangesSeen}
	if !m.All {
		m.Clients, err = sqldb.Select[string](s.read(ctx),
			"SELECT DISTINCT client_id FROM status_changes WHERE id > ? AND id <= ?", seen, upTo)
	}
	if err == nil {
		s.peers.seen = upTo
		s.received(m)
	}
	return publicError(err)
}

// announce wakes the requests that wait for changes of a client, here and elsewhere.
func (s *Store) announce(client string) {
	s.feeds.announce(client)
	s.peers.send(func(m *peerMessage) { m.addClient(client) })
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
