package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// kind is a named string type, as fields may have.
type kind string

// scanned has a field for each type of column.
type scanned struct {
	ID       int64
	Small    int
	ClientID string // for client_id, by GORM's rule
	Sort     kind
	Is       bool
	Maybe    *int64
	Text     *string
	embedded
}

type embedded struct{ Inner int64 }

const scannedSQL = "SELECT CAST(7 AS bigint) AS id, CAST(8 AS integer) AS small, 'c' AS client_id, 'local' AS sort, " +
	"1 = 1 AS is, CAST(9 AS bigint) AS maybe, 'text' AS text, CAST(10 AS bigint) AS inner"

// quoted puts the names in quotes that are keywords of SQL.
func quoted(text string) string {
	for _, name := range []string{"is", "inner", "text"} {
		text = strings.ReplaceAll(text, "AS "+name, `AS "`+name+`"`)
	}
	return text
}

func TestColumnsAreAssignedToFields(t *testing.T) {
	db := open(t)
	got, err := sqldb.Select[scanned](db.read(), quoted(scannedSQL))
	check(t, err)
	want := []scanned{{7, 8, "c", "local", true, new(int64(9)), new("text"), embedded{10}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	db.do(func(tx *sqldb.Tx) error {
		got, err := sqldb.Select[scanned](tx, quoted(scannedSQL))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("in a transaction that writes: got %+v, want %+v", got, want)
		}
		return err
	})
}

// The field is zero or nil, even if the row before had a value.
func TestNullLeavesFieldsUnchanged(t *testing.T) {
	db := open(t)
	db.write("INSERT INTO things (amount, name, owner, note) VALUES (1, 'a', 2, 'b'), (3, 'c', NULL, NULL)")
	type row struct {
		Amount int64
		Owner  *int64
		Note   string
	}
	got, err := sqldb.Select[row](db.read(), "SELECT amount, owner, note FROM things ORDER BY id")
	check(t, err)
	if want := []row{{1, new(int64(2)), "b"}, {3, nil, ""}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	owners, err := sqldb.Select[*int64](db.read(), "SELECT owner FROM things ORDER BY id")
	check(t, err)
	if len(owners) != 2 || owners[0] == nil || *owners[0] != 2 || owners[1] != nil {
		t.Errorf("the owners are %v", owners)
	}
}

func TestOnlyColumnIsTheRow(t *testing.T) {
	db := open(t)
	want := func(got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %#v, %v; want %#v", got, err, want)
		}
	}
	id, err := sqldb.Value[int64](db.read(), "SELECT CAST(? AS bigint)", 7)
	want(id, err, int64(7))
	text, err := sqldb.Value[kind](db.read(), "SELECT 'local'")
	want(text, err, kind("local"))
	is, err := sqldb.Value[bool](db.read(), "SELECT 1 = 2")
	want(is, err, false)
	nothing, err := sqldb.Value[*int64](db.read(), "SELECT CAST(NULL AS bigint)")
	want(nothing, err, (*int64)(nil))
}

func TestErrorNamesTheColumnThatDoesNotFit(t *testing.T) {
	db := open(t)
	type row struct{ ID int64 }
	_, err := sqldb.Select[row](db.read(), "SELECT 7 AS id, 8 AS other")
	wantError(t, err, "no field for the column other")
	_, err = sqldb.Value[int64](db.read(), "SELECT 'seven'")
	wantError(t, err, "a column of type string cannot be read into int64")
	_, err = sqldb.Value[string](db.read(), "SELECT CAST(7 AS bigint)")
	wantError(t, err, "a column of type int64 cannot be read into string")
	_, err = sqldb.Select[row](db.read(), "SELEKT 7")
	wantError(t, err, "SELEKT")
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want one with %q", err, text)
	}
}

func TestGetReportsWhetherThereIsARow(t *testing.T) {
	db := open(t)
	db.write("INSERT INTO things (amount, name) VALUES (1, 'a'), (2, 'b')")
	name, found, err := sqldb.Get[string](db.read(), "SELECT name FROM things ORDER BY id DESC")
	if name != "b" || !found || err != nil {
		t.Errorf("got %q, %t, %v", name, found, err)
	}
	name, found, err = sqldb.Get[string](db.read(), "SELECT name FROM things WHERE id = 99")
	if name != "" || found || err != nil {
		t.Errorf("without a row: got %q, %t, %v", name, found, err)
	}
	name, err = sqldb.Value[string](db.read(), "SELECT name FROM things WHERE id = 99")
	if name != "" || err != nil {
		t.Errorf("without a row the value is %q, %v", name, err)
	}
}

// Each returns the error of its function unchanged.
func TestEachKeepsTheOrderAndStopsAtAnError(t *testing.T) {
	db := open(t)
	db.write("INSERT INTO things (amount, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
	stop := errors.New("stop")
	for until, want := range map[int64]string{2: "a b ", 9: "a b c "} {
		var got strings.Builder
		err := sqldb.Each(db.read(), func(row struct {
			Amount int64
			Name   string
		},
		) error {
			fmt.Fprint(&got, row.Name, " ")
			if row.Amount == until {
				return stop
			}
			return nil
		}, "SELECT amount, name FROM things WHERE amount > ? ORDER BY id", 0)
		if got.String() != want || (until == 2) != (err == stop) { //nolint:errorlint // the error must be unchanged
			t.Errorf("until %d: got %q, %v", until, got.String(), err)
		}
	}
	err := sqldb.Each(db.read(), func(int64) error { return stop }, "SELEKT 1")
	if err == nil || errors.Is(err, stop) {
		t.Errorf("a failed statement: %v", err)
	}
	n, err := sqldb.Value[int64](db.read(), "SELECT count(*) FROM things") // the connection is free
	if n != 3 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}

func TestQueryEndsWithItsContext(t *testing.T) {
	db := open(t)
	ctx, end := context.WithCancel(t.Context())
	end()
	if _, err := sqldb.Value[int64](sqldb.Read(ctx, db.reader), "SELECT 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestSnapshotDoesNotSeeLaterCommits(t *testing.T) {
	db := open(t)
	count := func(q sqldb.Querier) int64 {
		n, err := sqldb.Value[int64](q, "SELECT count(*) FROM things")
		check(t, err)
		return n
	}
	check(t, sqldb.Snapshot(t.Context(), db.reader, func(tx *sqldb.ReadTx) error {
		before := count(tx)
		db.write("INSERT INTO things (amount, name) VALUES (1, 'a')")
		if after := count(tx); before != 0 || after != 0 {
			t.Errorf("it saw %d rows, and then %d", before, after)
		}
		return nil
	}))
	if n := count(db.read()); n != 1 {
		t.Errorf("afterwards there are %d rows", n)
	}
}

func TestColumnsListsAllFields(t *testing.T) {
	type row struct {
		ID, ClientID int64
		URL          string
	}
	if got, want := sqldb.Columns[row](), "id, client_id, url"; got != want {
		t.Errorf("the columns are %s, want %s", got, want)
	}
}

func TestExecCountReturnsChangedRows(t *testing.T) {
	db := open(t)
	db.do(func(tx *sqldb.Tx) error {
		n, err := tx.ExecCount("INSERT INTO things (amount, name) VALUES (1, 'a'), (2, 'b')")
		if n != 2 {
			t.Errorf("it has changed %d rows", n)
		}
		return err
	})
	err := db.Do(t.Context(), func(tx *sqldb.Tx) error { return tx.Exec("INSERT INTO nowhere VALUES (?)", 1) })
	wantError(t, err, "nowhere")
}
