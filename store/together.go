package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/agentevents/agentevents/store/internal/postgres"
)

// task is what one caller wants done together with what others want, and what comes of it.
type task interface {
	comparable
	asked() context.Context
	about() any // an agent or a lane
	end(error)
}

// gatherer does together what is asked for at the same time: in one transaction, and with as many statements for all as
// it would take for one. Whoever asks while it is at work waits for its next turn. What needs a row that somebody else
// holds is set apart, with what is about the same, so that nobody else waits for it.
type gatherer[T task] struct {
	write func(context.Context, func(tx *gorm.DB) error) error
	// work sets what comes of each, but for those that need what somebody holds: it waits for that, or returns them.
	work func(tx *gorm.DB, tasks []T, wait bool) (held []T, err error)

	mu      sync.Mutex
	waiting []waiter[T]
	busy    bool
	apart   map[any][]waiter[T] // by what they are about
	slots   chan struct{}       // of those apart
}

type waiter[T task] struct {
	task  T
	done  chan struct{}
	tries int // in which what it needs was held
}

// mostTries is how often a task is tried with others before it is set apart: mostly, what it needs is held for no longer
// than another transaction takes.
const mostTries = 3

// mostApart is how many transactions of each gatherer wait for what others hold: those of all take half of the connections,
// so that the others are there for the rest.
const mostApart = postgres.MaxWriters / 4

func (g *gatherer[T]) init(
	write func(context.Context, func(tx *gorm.DB) error) error, work func(tx *gorm.DB, tasks []T, wait bool) ([]T, error),
) {
	g.write, g.work, g.apart, g.slots = write, work, map[any][]waiter[T]{}, make(chan struct{}, mostApart)
}

// do returns when what comes of a task is durable.
func (g *gatherer[T]) do(t T) {
	w := waiter[T]{task: t, done: make(chan struct{})}
	g.add(w)
	<-w.done
}

func (g *gatherer[T]) add(w waiter[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if queue, is := g.apart[w.task.about()]; is {
		g.apart[w.task.about()] = append(queue, w)
		return
	}
	g.waiting = append(g.waiting, w)
	if !g.busy {
		g.busy = true
		go g.run()
	}
}

func (g *gatherer[T]) run() {
	for batch := g.next(); batch != nil; batch = g.next() {
		g.again(g.try(batch, false))
	}
}

// again has tasks tried with others once more, or sets them apart.
func (g *gatherer[T]) again(left []waiter[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range left {
		if w.tries++; w.tries < mostTries {
			g.waiting = append(g.waiting, w)
		} else {
			g.setApart(w)
		}
	}
}

// next takes those who wait, or notes that nobody does.
func (g *gatherer[T]) next() []waiter[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), most)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if n == 0 {
		g.busy, g.waiting = false, nil
		return nil
	}
	return batch
}

func (g *gatherer[T]) setApart(w waiter[T]) {
	about := w.task.about()
	if _, begun := g.apart[about]; !begun {
		go g.runApart(about)
	}
	g.apart[about] = append(g.apart[about], w)
}

// runApart does what is about the same, and waits for what it needs.
func (g *gatherer[T]) runApart(about any) {
	g.slots <- struct{}{}
	defer func() { <-g.slots }()
	for batch := g.nextApart(about); batch != nil; batch = g.nextApart(about) {
		for len(batch) > 0 {
			batch = g.try(batch, true)
		}
	}
}

func (g *gatherer[T]) nextApart(about any) []waiter[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := g.apart[about]
	if g.apart[about] = nil; len(batch) == 0 {
		delete(g.apart, about)
	}
	return batch
}

// try does tasks in one transaction. It returns those that must be set apart: what they need is held, or they have failed
// together, and not since the database is in trouble, so that none takes others with it.
func (g *gatherer[T]) try(batch []waiter[T], wait bool) (left []waiter[T]) {
	batch = slices.DeleteFunc(batch, waiter[T].gone)
	if len(batch) == 0 {
		return nil
	}
	ctx := context.Background()
	if len(batch) == 1 {
		ctx = batch[0].task.asked()
	}
	var held []T
	err := g.write(ctx, func(tx *gorm.DB) (err error) {
		held, err = g.work(tx, each(batch, func(w waiter[T]) T { return w.task }), wait)
		return err
	})
	if err != nil && !wait && len(batch) > 1 && !inTrouble(err) {
		return each(batch, waiter[T].alone)
	}
	for _, w := range batch {
		if err == nil && slices.Contains(held, w.task) {
			left = append(left, w)
		} else {
			w.end(err)
		}
	}
	return left
}

// inTrouble says whether an error is of the database, and not of what a transaction did or of who was in its way.
func inTrouble(err error) bool {
	var trouble *Error
	return errors.As(err, &trouble) && !postgres.IsLockTimeout(err)
}

// alone is a task that is not to be tried with others again.
func (w waiter[T]) alone() waiter[T] {
	w.tries = mostTries
	return w
}

func (w waiter[T]) end(err error) {
	w.task.end(err)
	close(w.done)
}

// gone ends a task whose caller does not want it any more, and says whether that is so.
func (w waiter[T]) gone() bool {
	err := w.task.asked().Err()
	if err != nil {
		w.end(err)
	}
	return err != nil
}

// rounds parts tasks so that in each round no key is twice, and what has one key stays in its order.
func rounds[T any, K comparable](tasks []T, key func(T) K) (parts [][]T) {
	turn := map[K]int{}
	for _, t := range tasks {
		n := turn[key(t)]
		turn[key(t)]++
		if n == len(parts) {
			parts = append(parts, nil)
		}
		parts[n] = append(parts[n], t)
	}
	return parts
}

// mostValues is how many rows go as parameters of their own.
const mostValues = 512

// tableOf is rows as a table for a statement. The columns are the fields of the rows, by their names in JSON. On SQLite, as
// long as they are not very many, each value is a parameter, which is quickest; else all are one.
func tableOf[R any](tx *gorm.DB, rows []R) clause.Expr {
	if !onPostgres(tx) && len(rows) <= mostValues {
		return valuesOf(rows)
	}
	text, err := json.Marshal(rows)
	if err != nil {
		_ = tx.AddError(err)
	}
	list := strings.Join(columnsOf[R](onPostgres(tx)), ", ")
	if onPostgres(tx) {
		return clause.Expr{
			SQL:  "(SELECT * FROM json_to_recordset(?::json) AS r (" + list + ") LIMIT ?)", // or it would expect a hundred
			Vars: []any{string(text), len(rows)},
		}
	}
	return clause.Expr{SQL: "(SELECT " + list + " FROM json_each(?))", Vars: []any{string(text)}}
}

// valuesOf is rows as 1, 2, 4, 8 … rows of parameters, so that a statement about any number of them is one of few
// statements. Those that are too many are NULL and left out.
func valuesOf[R any](rows []R) clause.Expr {
	fields, n := fieldsOf[R](), 1<<bits.Len(uint(len(rows)-1))
	vars := make([]any, n*len(fields))
	for i := range rows {
		row := reflect.ValueOf(&rows[i]).Elem()
		for j, f := range fields {
			vars[i*len(fields)+j] = valueOf(row.FieldByIndex(f.Index))
		}
	}
	return clause.Expr{SQL: valuesSQL[R](n), Vars: vars}
}

// valueOf is what a field has, as the database knows it.
func valueOf(field reflect.Value) any {
	switch field.Kind() {
	case reflect.Pointer:
		if field.IsNil() {
			return nil
		}
		return valueOf(field.Elem())
	case reflect.String:
		return field.String()
	}
	return field.Int()
}

// writtenOut is a table of so many rows.
type writtenOut struct {
	row reflect.Type
	n   int
}

// tables are those that valuesSQL was asked for.
var tables sync.Map

func valuesSQL[R any](n int) string {
	key := writtenOut{reflect.TypeFor[R](), n}
	if text, is := tables.Load(key); is {
		return text.(string)
	}
	var columns []string
	for i, f := range fieldsOf[R]() {
		columns = append(columns, fmt.Sprintf("column%d AS %s", i+1, f.Tag.Get("json")))
	}
	row := "(?" + strings.Repeat(", ?", len(columns)-1) + ")"
	text := "(SELECT " + strings.Join(columns, ", ") + " FROM (VALUES " + row + strings.Repeat(", "+row, n-1) + ") WHERE column1 IS NOT NULL)"
	tables.Store(key, text)
	return text
}

// columnsOf are the columns of a row as PostgreSQL declares them, or as SQLite takes them out of a value.
func columnsOf[R any](declared bool) (columns []string) {
	for _, f := range fieldsOf[R]() {
		name := f.Tag.Get("json")
		switch {
		case !declared:
			columns = append(columns, fmt.Sprintf("value ->> '%s' AS %s", name, name))
		case f.Type.Kind() == reflect.String:
			columns = append(columns, name+" text")
		default:
			columns = append(columns, name+" bigint")
		}
	}
	return columns
}

// knownFields are those of types that fieldsOf was asked for.
var knownFields sync.Map

// fieldsOf are the fields that have names in JSON.
func fieldsOf[R any]() []reflect.StructField {
	of := reflect.TypeFor[R]()
	if fields, is := knownFields.Load(of); is {
		return fields.([]reflect.StructField)
	}
	fields := slices.DeleteFunc(reflect.VisibleFields(of), func(f reflect.StructField) bool { return f.Tag.Get("json") == "-" })
	knownFields.Store(of, fields)
	return fields
}

// insertAll inserts rows, which are without ids, and returns the ids that they got, in their order. Columns that have no
// names in JSON get their defaults.
func insertAll[R any](tx *gorm.DB, table string, rows []R) (ids []int64, err error) {
	var names []string
	for _, f := range fieldsOf[R]() {
		if name := f.Tag.Get("json"); name != "id" {
			names = append(names, name)
		}
	}
	list := strings.Join(names, ", ")
	ids, err = query[int64](tx, "INSERT INTO "+table+" ("+list+") SELECT "+list+" FROM ? AS x RETURNING id", tableOf(tx, rows))
	slices.Sort(ids)
	return ids, err
}
