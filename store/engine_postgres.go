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
	writers, err := postgres.ORM(postgres.Queued(e.db.WritePool()), log)
	if err != nil {
		return err
	}
	clock := s.databaseClock()
	s.writes = postgres.NewWriter(writers, clock, unavailableError)
	if s.reader, err = postgres.ORM(e.db.ReadPool(), log); err != nil {
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
	return checkComplete(s.read(ctx)) // a process that listens prevents a copy
}

// databaseClock makes the database's clock the store's clock, unless the store was given one.
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

// openVerifier implements engine. It accepts a standby.
func (e *postgresEngine) openVerifier(databaseURL string) (*sql.DB, error) {
	return postgres.OpenVerifier(databaseURL)
}

func (e *postgresEngine) checkSchema(ctx context.Context, db *sql.DB) error {
	return postgres.CheckSchema(ctx, db)
}

func (e *postgresEngine) orm(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return postgres.ORM(pool, log)
}

func (e *postgresEngine) invariants() []invariant          { return invariants }
func (e *postgresEngine) servesAlone() bool                { return false }
func (e *postgresEngine) checkWritable() error             { return nil }
func (e *postgresEngine) checkFiles(context.Context) error { return nil }
func (e *postgresEngine) fileStats() FileStats             { return FileStats{} }
func (e *postgresEngine) maintain(context.Context) error   { return nil }
func (e *postgresEngine) shrink(context.Context) error     { return nil } // PostgreSQL does so itself

func (e *postgresEngine) writeUnsynced(ctx context.Context, work sqldb.Work) error {
	return e.store.write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Queue("SET LOCAL synchronous_commit = off"); err != nil {
			return err
		}
		return work(tx)
	})
}

// allocate implements engine. The rows need new pages, and the commit needs the log, although the rows are rolled back.
// No reader and no other process waits for its locks. Vacuum removes the rows of a rolled-back savepoint, whatever
// other transactions still read.
func (e *postgresEngine) allocate(tx *sqldb.Tx, _ int64) error {
	return errors.Join(tx.Queue("SAVEPOINT room"),
		tx.Queue("INSERT INTO probe_room (filler) SELECT repeat('x', 7000) FROM generate_series(1, 2)"),
		tx.Queue("ROLLBACK TO SAVEPOINT room"))
}

func (e *postgresEngine) eraseOverwritten(context.Context) (bool, error) { return true, nil }
func (e *postgresEngine) eraseDeleted(context.Context) (bool, error)     { return true, nil }

func (e *postgresEngine) overwrite(_ *sqldb.Tx, fn func() error) error { return fn() }

func (e *postgresEngine) readers() int { return postgres.MaxReaders }

func (e *postgresEngine) dueLanesSQL() string { return postgresDueLanesSQL }

// changeNumbers is the sequence of status changes.
const changeNumbers = postgres.Sequence("status_changes_id_seq")

func (e *postgresEngine) announceNumbers(tx *sqldb.Tx) error {
	return tx.Queue(changeNumbers.AnnounceSQL())
}

func (e *postgresEngine) visibleUpTo(ctx context.Context) (int64, error) {
	return changeNumbers.VisibleUpTo(e.store.read(ctx))
}

const (
	notifyEvery       = 5 * time.Millisecond // the minimum interval: each takes a lock of the whole server
	maxMessageClients = 100                  // the maximum number of clients in a message
)

// peers are the other processes that serve a PostgreSQL database. They notify each other of changes. A lost message
// does no harm, since every process also polls every second.
type peers struct {
	store *Store
	db    *postgres.DB
	name  string // the name of this process
	seen  int64  // the sequence number up to which pollChanges has read
	log   *slog.Logger
	stop  func()
	done  sync.WaitGroup

	mu      sync.Mutex
	message peerMessage   // the next message
	ready   chan struct{} // signals that there is a message
}

// peerMessage is a notification of a peer.
type peerMessage struct {
	Clients []string `json:"clients,omitempty"` // the clients whose agents have changed
	All     bool     `json:"all,omitempty"`     // agents of any client may have changed
	Due     bool     `json:"due,omitempty"`     // more lanes are due than the sender has room for
	From    string   `json:"from"`              // the sender's name
}

// joinPeers starts to send and receive messages. When it returns, the database is marked as served, unless the
// connection failed: then it is retried.
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

// send adds to the next message. On SQLite there are no peers, and it does nothing.
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

// sendAll sends messages, never in a transaction of a change.
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
			p.log.Warn("notification of the other processes failed", "error", err)
		}
		pause(ctx, notifyEvery)
	}
}

// receive decodes a message. It ignores the messages of this process, which come back.
func (p *peers) receive(payload string) {
	var m peerMessage
	if json.Unmarshal([]byte(payload), &m) == nil && m.From != p.name {
		p.store.received(m)
	}
}

// received wakes the requests and the dispatcher that wait for the changes in a message.
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

// maxPolledChanges is the number of changes above which pollChanges notifies all clients.
const maxPolledChanges = 10_000

// pollChanges notifies the requests that wait for changes of clients, since a notification of a peer may be lost. One
// poll serves all requests of the process.
func (s *Store) pollChanges(ctx context.Context) error {
	upTo, err := s.engine.visibleUpTo(ctx)
	seen := s.peers.seen
	if err != nil || upTo <= seen {
		return publicError(err)
	}
	m := peerMessage{All: upTo-seen > maxPolledChanges}
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

// announce notifies the requests that wait for changes of a client, in this process and in its peers.
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
