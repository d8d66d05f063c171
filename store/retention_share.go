package store

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// Retention by rows is fair among clients, so it needs the numbers of rows of each client.
//
// The pruning job keeps them in the table retained. It counts the rows of new changes from the rows themselves, once a
// second, so a change and a delivery cost no further write. A transaction that deletes counted rows subtracts them, so
// a crash loses no count, and any number of processes may count and delete.

const (
	countedChanges  = 2000 // changes that one commit counts
	recountedAtOnce = 20   // clients that one query counts again
	surplusDivisor  = 128  // pruning goes KeepRows/128 below KeepRows, so that there are few queries per row
)

// retainedRow is the numbers of rows of a client, or a difference to them.
type retainedRow struct {
	ClientID   string `json:"client_id"`
	Changes    int64  `json:"changes"`
	Deliveries int64  `json:"deliveries"`
}

// countRetained counts the changes that are not counted yet, and their deliveries.
func (s *Store) countRetained(ctx context.Context) error {
	for more := true; more && ctx.Err() == nil; {
		upTo, err := s.engine.visibleUpTo(ctx)
		if err != nil {
			return err
		}
		if more, err = s.countNext(ctx, upTo); err != nil {
			return err
		}
	}
	return nil
}

// countNext counts the next changes, at most up to a number up to which all changes are visible.
func (s *Store) countNext(ctx context.Context, upTo int64) (more bool, err error) {
	var next struct{ Counted, Newest int64 }
	var rows []retainedRow
	err = s.snapshot(ctx, func(tx *sqldb.Reader) (err error) {
		next, err = sqldb.Value[struct{ Counted, Newest int64 }](tx, nextCountedSQL, countedChanges-1)
		next.Newest = min(next.Newest, upTo)
		if err == nil && next.Counted < next.Newest {
			rows, err = sqldb.Select[retainedRow](tx, newRetainedSQL,
				map[string]any{"after": next.Counted, "to": next.Newest})
		}
		return err
	})
	if err != nil || next.Counted >= next.Newest {
		return false, err
	}
	return true, s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
		mine, err := tx.ExecCount("UPDATE retention SET counted = ? WHERE id = 1 AND counted = ?", next.Newest,
			next.Counted)
		if err != nil || mine == 0 { // another process has counted them
			return err
		}
		return addRetained(tx, rows)
	})
}

const nextCountedSQL = "SELECT r.counted, coalesce((SELECT c.id FROM status_changes c WHERE c.id > r.counted " +
	"ORDER BY c.id LIMIT 1 OFFSET CAST(? AS BIGINT)), (SELECT max(id) FROM status_changes), 0) AS newest " +
	"FROM retention r WHERE r.id = 1"

const newRetainedSQL = "SELECT client_id, sum(changes) AS changes, sum(deliveries) AS deliveries FROM (" +
	"SELECT client_id, 1 AS changes, 0 AS deliveries FROM status_changes WHERE id > @after AND id <= @to UNION ALL " +
	"SELECT client_id, 0, 1 FROM deliveries WHERE change_id > @after AND change_id <= @to) added GROUP BY client_id"

// addRetained adds to the numbers of clients. It sorts the rows, since two transactions must lock clients in the same
// order, and PostgreSQL's own order depends on the collation of the database.
func addRetained(tx *sqldb.Tx, rows []retainedRow) error {
	if len(rows) == 0 {
		return nil
	}
	slices.SortFunc(rows, func(a, b retainedRow) int { return strings.Compare(a.ClientID, b.ClientID) })
	return tx.Exec("INSERT INTO retained (client_id, changes, deliveries) SELECT client_id, changes, deliveries "+
		"FROM ? AS x WHERE true ORDER BY x.ordinal ON CONFLICT (client_id) DO UPDATE SET "+
		"changes = retained.changes + excluded.changes, deliveries = retained.deliveries + excluded.deliveries",
		sqldb.Table(tx, rows))
}

// subtractRetained subtracts deleted rows, one of each client named. A client may be named repeatedly.
func subtractRetained(tx *sqldb.Tx, clients []string, one retainedRow) error {
	of := map[string]retainedRow{}
	for _, c := range clients {
		r := of[c]
		of[c] = retainedRow{c, r.Changes - one.Changes, r.Deliveries - one.Deliveries}
	}
	return addRetained(tx, slices.Collect(maps.Values(of)))
}

// surplusRows are, for each client with too many rows, the last ones that are too many.
type surplusRows struct {
	counted             int64 // the last change that is counted
	changes, deliveries map[string]int64
}

// findSurplus finds the rows beyond KeepRows: the oldest ones of the clients that have the most. It reads in one
// snapshot, so that rows that another process deletes meanwhile are not replaced by others.
func (s *Store) findSurplus(ctx context.Context) (found surplusRows, err error) {
	found = surplusRows{0, map[string]int64{}, map[string]int64{}}
	err = s.snapshot(ctx, func(tx *sqldb.Reader) error {
		all, err := sqldb.Value[struct{ Counted, Changes, Deliveries int64 }](tx, allRetainedSQL)
		found.counted = all.Counted
		if keep := int64(s.KeepRows); err != nil || all.Changes <= keep && all.Deliveries <= keep {
			return err
		}
		rows, err := sqldb.Select[retainedRow](tx, "SELECT client_id, changes, deliveries FROM retained")
		if err != nil {
			return err
		}
		changes := s.fairShare(rows, func(r retainedRow) int64 { return r.Changes })
		deliveries := s.fairShare(rows, func(r retainedRow) int64 { return r.Deliveries })
		for _, r := range rows {
			if err := found.add(tx, r, r.Changes-changes, r.Deliveries-deliveries); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

const allRetainedSQL = "SELECT r.counted, retained.changes, retained.deliveries FROM retention r, (SELECT " +
	"CAST(coalesce(sum(changes), 0) AS BIGINT) AS changes, " +
	"CAST(coalesce(sum(deliveries), 0) AS BIGINT) AS deliveries " +
	"FROM retained) AS retained WHERE r.id = 1"

// fairShare returns the number of rows that each client may keep. All clients have the same share, and what a client
// does not need of its share is shared by the others. If no row is too many, the share is unlimited.
func (s *Store) fairShare(rows []retainedRow, number func(retainedRow) int64) int64 {
	numbers, sum := each(rows, number), int64(0)
	for _, n := range numbers {
		sum += n
	}
	if sum <= int64(s.KeepRows) {
		return math.MaxInt64
	}
	slices.Sort(numbers)
	left := int64(s.KeepRows - s.KeepRows/surplusDivisor)
	for i, n := range numbers {
		share := left / int64(len(numbers)-i)
		if n > share {
			return share
		}
		left -= n
	}
	return math.MaxInt64
}

// add adds the last of a client's rows that are too many. A delivery is also too many if its change is.
func (f surplusRows) add(q sqldb.Querier, r retainedRow, changes, deliveries int64) (err error) {
	var change, delivery int64
	if changes > 0 {
		change, err = nth(q, "status_changes", r.ClientID, changes)
	}
	if err == nil && deliveries > 0 {
		delivery, err = nth(q, "deliveries", r.ClientID, deliveries)
	}
	if err == nil && change > 0 {
		var next int64
		next, err = sqldb.Value[int64](q,
			"SELECT coalesce((SELECT id FROM deliveries WHERE change_id > ? ORDER BY change_id, id LIMIT 1), "+
				"(SELECT max(id) + 1 FROM deliveries), 1)", change)
		f.changes[r.ClientID], delivery = change, max(delivery, next-1)
	}
	if delivery > 0 {
		f.deliveries[r.ClientID] = delivery
	}
	return err
}

// nth returns the id of a client's n-th row; 0 if the client has fewer rows. The comparisons of rows let PostgreSQL use
// no index but that of the client.
func nth(q sqldb.Querier, table, client string, n int64) (id int64, err error) {
	id, _, err = sqldb.Get[int64](q, "SELECT id FROM "+table+" WHERE (client_id, id) > (?, 0) AND "+
		"(client_id, id) < (?, 9223372036854775807) ORDER BY client_id, id LIMIT 1 OFFSET CAST(? AS BIGINT)",
		client, client, n-1)
	return id, err
}

// recountRetained counts the rows of all clients and corrects the stored numbers. They can be wrong only after another
// program has deleted rows, such as a server of an earlier version.
func (s *Store) recountRetained(ctx context.Context) error {
	corrected := 0
	for last, more := "", true; more && ctx.Err() == nil; {
		found, err := sqldb.Select[recounted](s.read(ctx), recountSQL, last, recountedAtOnce)
		if err != nil {
			return err
		}
		for _, r := range found {
			last = r.ClientID
			if !r.wrong() && !r.empty() {
				continue
			}
			if err := s.write(context.WithoutCancel(ctx), r.correct); err != nil {
				return err
			}
			if r.wrong() {
				corrected++
			}
		}
		more = len(found) == recountedAtOnce
	}
	if corrected > 0 {
		s.Log.Warn("retention counts corrected", "clients", corrected)
	}
	return nil
}

// recounted is a stored row of retained with the numbers that are there.
type recounted struct {
	ClientID                        string
	Changes, Deliveries             int64
	ActualChanges, ActualDeliveries int64
}

// recountSQL reads the stored and the actual numbers at one moment.
const recountSQL = "SELECT k.client_id, k.changes, k.deliveries, (SELECT count(*) FROM status_changes c " +
	"WHERE c.client_id = k.client_id AND c.id <= r.counted) AS actual_changes, (SELECT count(*) FROM deliveries d " +
	"WHERE d.client_id = k.client_id AND d.change_id <= r.counted) AS actual_deliveries " +
	"FROM retained k JOIN retention r ON r.id = 1 WHERE k.client_id > ? ORDER BY k.client_id" + sqldb.Limit

func (r recounted) wrong() bool {
	return r.Changes != r.ActualChanges || r.Deliveries != r.ActualDeliveries
}
func (r recounted) empty() bool { return r.ActualChanges == 0 && r.ActualDeliveries == 0 }

// correct stores the actual numbers, unless the stored ones have changed since they were read. It deletes the row of a
// client without rows.
func (r recounted) correct(tx *sqldb.Tx) error {
	const unchanged = " WHERE client_id = ? AND changes = ? AND deliveries = ?"
	if r.empty() {
		return tx.Exec("DELETE FROM retained"+unchanged, r.ClientID, r.Changes, r.Deliveries)
	}
	return tx.Exec("UPDATE retained SET changes = ?, deliveries = ?"+unchanged,
		r.ActualChanges, r.ActualDeliveries, r.ClientID, r.Changes, r.Deliveries)
}
