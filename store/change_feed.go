package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

func (r changeRow) model() gen.StatusChange {
	return gen.StatusChange{
		Sequence: r.ID, AgentType: r.Kind, AgentID: r.AgentID, Name: r.Name, OldStatus: r.OldStatus,
		AgentStatus: r.NewStatus, EventSource: r.EventSource, ChangedAt: apiTime(r.ChangedAt),
		CreatedAt: apiTime(r.CreatedAt),
	}
}

// Feed is a page of a client's status changes.
type Feed struct {
	Epoch   string             // of the sequence numbers
	After   int64              // the sequence number before the page
	Changes []gen.StatusChange // in the order of their sequence numbers
}

// StatusChanges lists a client's status changes in the order of their sequence numbers, at most limit of them.
//
// The list begins after a sequence number of an epoch; nil means the oldest change that is kept, and an empty epoch any
// epoch. If changes after that number are no longer kept, the error is an *Error of kind Truncated. If the epoch is
// another one, it is of kind Restarted.
func (s *Store) StatusChanges(
	ctx context.Context, client string, after *int64, epoch string, limit int,
) (feed Feed, err error) {
	upTo, err := s.engine.visibleUpTo(ctx)
	if err != nil {
		return Feed{}, publicError(err)
	}
	err = s.snapshot(ctx, func(tx *sqldb.Reader) error {
		if _, err := findClient(tx, client); err != nil {
			return err
		}
		from, now, err := pageStart(tx, client, after, epoch)
		if err != nil {
			return err
		}
		scan := indexScan{columns: []string{"client_id"}, values: []any{client}, whole: tx.Dialect() == sqldb.Postgres}
		rows, err := changesBy(tx, scan, from, upTo, "", limit)
		feed = Feed{now, from, each(rows, changeRow.model)}
		return err
	})
	if isNotFound(err) {
		s.feeds.announce(client) // a request that called NextChange after the deletion would otherwise wait for ever
	}
	return feed, err
}

// NewestChange returns a sequence number after which a client's feed may begin: each change that is not visible yet has
// a greater number. It may be the number of another client's change.
func (s *Store) NewestChange(ctx context.Context, client string) (after int64, err error) {
	upTo, err := s.engine.visibleUpTo(ctx)
	if err != nil {
		return 0, publicError(err)
	}
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return 0, err
	}
	is, err := sqldb.Value[struct{ Newest, Gone int64 }](tx, "SELECT coalesce(max(id), 0) AS newest, "+
		"(SELECT coalesce(max(sequence), 0) FROM truncated WHERE client_id = ?) AS gone FROM status_changes", client)
	return max(min(is.Newest, upTo), is.Gone), publicError(err)
}

// changesBy lists the changes of an index scan between two sequence numbers, at most limit of them.
func changesBy(q sqldb.Querier, scan indexScan, after, upTo int64, direction string, limit int) ([]changeRow, error) {
	var t terms
	scan.addEqualities(&t)
	scan.addBound(&t, "id", ">", "?", after)
	scan.addBound(&t, "id", "<=", "?", upTo)
	return sqldb.Select[changeRow](
		q, changesSQL+strings.Join(t.sql, " AND ")+" ORDER BY "+scan.order(direction, "id")+sqldb.Limit,
		append(t.args, limit)...,
	)
}

var changesSQL = "SELECT " + sqldb.Columns[changeRow]() + " FROM status_changes WHERE "

// pageStart returns the sequence number before a page, and the current epoch.
func pageStart(q sqldb.Querier, client string, after *int64, epoch string) (from int64, now string, err error) {
	var feed struct {
		Epoch     string
		Truncated int64
	}
	feed, err = sqldb.Value[struct {
		Epoch     string
		Truncated int64
	}](
		q,
		"SELECT e.epoch, coalesce(t.sequence, 0) AS truncated FROM epochs e LEFT JOIN truncated t ON t.client_id = ?",
		client,
	)
	switch {
	case err != nil || after == nil:
		return feed.Truncated, feed.Epoch, err
	case epoch != "" && epoch != feed.Epoch:
		return 0, "", restarted(q, client, feed.Truncated, epoch, feed.Epoch)
	case *after < feed.Truncated:
		return 0, "", truncated(q, client, feed.Truncated, *after)
	}
	return *after, feed.Epoch, nil
}

func truncated(q sqldb.Querier, client string, gone, after int64) error {
	oldest, err := oldestChange(q, client, gone)
	if err != nil {
		return err
	}
	return &Error{
		Kind: Truncated, Status: "feed_truncated", Oldest: oldest,
		Message: fmt.Sprintf("changes after %d are no longer kept, the oldest one is %d; start=oldest begins there",
			after, oldest),
	}
}

func restarted(q sqldb.Querier, client string, gone int64, epoch, now string) error {
	oldest, err := oldestChange(q, client, gone)
	if err != nil {
		return err
	}
	return &Error{
		Kind: Restarted, Status: "feed_restarted", Oldest: oldest, Epoch: now,
		Message: fmt.Sprintf("the sequence numbers are not those of epoch %s: the store was restored from a "+
			"backup, or is another one; the oldest change that is kept is %d", epoch, oldest),
	}
}

// oldestChange returns the sequence number of a client's oldest change that is kept. Without any, it returns the lowest
// number that a change may have.
func oldestChange(q sqldb.Querier, client string, gone int64) (oldest int64, err error) {
	return sqldb.Value[int64](q, "SELECT coalesce(min(id), ?) FROM status_changes WHERE client_id = ? AND id > ?",
		gone+1, client, gone)
}

// feeds notifies the requests that wait for changes of a client.
type feeds struct {
	mu      sync.Mutex
	waiting map[string]chan struct{}
}

// NextChange returns a channel that is closed at the next change of a client's agents. A caller must get the channel
// before it reads the changes, or it may miss one.
func (s *Store) NextChange(client string) <-chan struct{} {
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	if s.feeds.waiting == nil {
		s.feeds.waiting = map[string]chan struct{}{}
	}
	c := s.feeds.waiting[client]
	if c == nil {
		c = make(chan struct{})
		s.feeds.waiting[client] = c
	}
	return c
}

func (f *feeds) announce(client string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.waiting[client]; c != nil {
		close(c)
		delete(f.waiting, client)
	}
}

func (f *feeds) announceAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for client, c := range f.waiting {
		close(c)
		delete(f.waiting, client)
	}
}

// NewEpoch gives the database a new epoch and returns it. A request that continues from a sequence number of an earlier
// epoch then gets an *Error of kind Restarted.
func (s *Store) NewEpoch(ctx context.Context) (string, error) {
	epoch := newEpoch()
	return epoch, s.write(ctx, func(tx *sqldb.Tx) error { return tx.Exec(epochSQL, epoch) })
}

// firstEpoch gives a copy that was never served an epoch. Each restored copy gets another one.
func (s *Store) firstEpoch(ctx context.Context) error {
	return s.write(ctx, func(tx *sqldb.Tx) error { return tx.Exec(epochSQL+" WHERE epoch = ''", newEpoch()) })
}

const epochSQL = "UPDATE epochs SET epoch = ?"

// newEpoch returns a random epoch, which no other database has.
func newEpoch() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // crypto/rand does not fail
	return hex.EncodeToString(random[:])
}
