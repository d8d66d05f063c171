package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// servedLock is held by all processes that serve a database, so that nobody copies into it meanwhile.
const servedLock = "24934::bigint << 48"

const (
	channel     = "agentevents"
	notifyEvery = 5 * time.Millisecond // at most, since each takes a lock of the whole server
	reconnect   = time.Second
	mostNews    = 100 // clients that a message names
)

// others are the processes that share a PostgreSQL database. They tell each other what somebody may wait for. What
// nobody hears is found by looking, every second.
type others struct {
	store *Store
	name  string // of this one
	seen  int64  // sequence number up to which lookAgain has looked
	log   *slog.Logger
	stop  func()
	done  sync.WaitGroup
	heard chan struct{} // is closed when it has listened, or failed to, for the first time

	mu    sync.Mutex
	news  news
	ready chan struct{} // there is something to tell
}

// news are what others may wait for.
type news struct {
	Clients []string `json:"clients,omitempty"` // whose agents have changed
	All     bool     `json:"all,omitempty"`     // or any
	Due     bool     `json:"due,omitempty"`     // more lanes are due than who says so has room for
	From    string   `json:"from"`              // who says so
}

// join connects to the others. When it returns it is known that the database is served, unless there was trouble, after
// which it is tried again.
func (s *Store) join() {
	ctx, stop := context.WithCancel(context.Background())
	o := &others{store: s, name: rand.Text(), log: s.Log, stop: stop, ready: make(chan struct{}, 1), heard: make(chan struct{})}
	o.done.Go(func() { o.listen(ctx) })
	o.done.Go(func() { o.talk(ctx) })
	s.others = o
	<-o.heard
}

func (o *others) close() {
	o.stop()
	o.done.Wait()
}

// tell has the others told soon.
func (o *others) tell(change func(n *news)) {
	if o == nil {
		return
	}
	o.mu.Lock()
	change(&o.news)
	o.mu.Unlock()
	signal(o.ready)
}

// changed adds a client whose agents have changed.
func (n *news) changed(client string) {
	for _, c := range n.Clients {
		if c == client {
			return
		}
	}
	if n.All = n.All || len(n.Clients) == mostNews; n.All {
		n.Clients = nil
		return
	}
	n.Clients = append(n.Clients, client)
}

func (o *others) take() (n news) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, o.news = o.news, news{}
	return n
}

// talk tells the others, outside of any transaction of a change.
func (o *others) talk(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.ready:
		}
		said := o.take()
		said.From = o.name
		text, _ := json.Marshal(said)
		err := o.tellAll(ctx, string(text))
		if err != nil && ctx.Err() == nil {
			o.log.Warn("tell the other processes", "error", err)
		}
		pause(ctx, notifyEvery)
	}
}

func (o *others) tellAll(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, pgPatience)
	defer cancel()
	_, err := o.store.engine.(*postgresEngine).writers.ExecContext(ctx, "SELECT pg_notify($1, $2)", channel, text)
	return err
}

// listen hears the others. After each time of deafness all may have happened.
func (o *others) listen(ctx context.Context) {
	first := sync.OnceFunc(func() { close(o.heard) })
	for ctx.Err() == nil {
		err := o.hear(ctx, first)
		first()
		if err != nil && ctx.Err() == nil {
			o.log.Warn("listen to the other processes", "error", err)
			pause(ctx, reconnect)
		}
	}
}

func (o *others) hear(ctx context.Context, listening func()) error {
	config, err := connect(o.store.URL, map[string]string{})
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	soon, cancel := context.WithTimeout(ctx, pgPatience)
	defer cancel()
	if _, err := conn.Exec(soon, "LISTEN "+channel+"; SELECT pg_advisory_lock_shared("+servedLock+")"); err != nil {
		return err
	}
	listening()
	o.store.heard(news{All: true, Due: true})
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		var said news
		if json.Unmarshal([]byte(n.Payload), &said) == nil && said.From != o.name {
			o.store.heard(said)
		}
	}
}

// hangUp does not wait for a server that is gone. One that is there notices the end of a connection a little later: what it
// holds is let go before.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), reconnect)
	defer cancel()
	if !conn.IsClosed() {
		_, _ = conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	}
	_ = conn.Close(ctx)
}

// heard wakes who waits here.
func (s *Store) heard(n news) {
	for _, client := range n.Clients {
		s.feeds.announce(client)
	}
	if n.All {
		s.feeds.announceAll()
	}
	if n.Due {
		s.wake()
	}
}

// mostAgain is how many changes lookAgain looks at one by one.
const mostAgain = 10_000

// lookAgain has those look who wait for changes of clients that have some: what other processes say may be lost. One look
// is for all who wait.
func (s *Store) lookAgain(ctx context.Context) error {
	upTo, err := s.engine.visibleUpTo(ctx)
	seen := s.others.seen
	if err != nil || upTo <= seen {
		return failure(err)
	}
	said := news{All: upTo-seen > mostAgain}
	if !said.All {
		err = s.read(ctx).Raw("SELECT DISTINCT client_id FROM status_changes WHERE id > ? AND id <= ?", seen, upTo).
			Scan(&said.Clients).Error
	}
	if err == nil {
		s.others.seen = upTo
		s.heard(said)
	}
	return failure(err)
}

// announce tells who waits for changes of a client, here and elsewhere.
func (s *Store) announce(client string) {
	s.feeds.announce(client)
	s.others.tell(func(n *news) { n.changed(client) })
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
