package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// task is what one caller wants done together with what others want, and what comes of it.
type task interface {
	asked() context.Context
	end(error)
}

// gatherer does together what is asked for at the same time: in one transaction, and with as many statements for all as
// it would take for one. Whoever asks while it is at work waits for its next turn.
type gatherer[T task] struct {
	write func(context.Context, func(tx *gorm.DB) error) error
	work  func(tx *gorm.DB, tasks []T) error // sets what comes of each; an error of it is one of them all

	mu      sync.Mutex
	waiting []waiter[T]
	busy    bool
}

type waiter[T task] struct {
	task T
	done chan struct{}
}

// do returns when what comes of a task is durable.
func (g *gatherer[T]) do(t T) {
	w := waiter[T]{t, make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	if !g.busy {
		g.busy = true
		go g.run()
	}
	g.mu.Unlock()
	<-w.done
}

func (g *gatherer[T]) run() {
	for batch := g.next(); batch != nil; batch = g.next() {
		tasks := make([]T, 0, len(batch))
		for _, w := range batch {
			if err := w.task.asked().Err(); err != nil {
				w.task.end(err)
			} else {
				tasks = append(tasks, w.task)
			}
		}
		g.all(tasks)
		for _, w := range batch {
			close(w.done)
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

// all does tasks in one transaction. When that fails, and not since the database is in trouble, each has one of its own:
// none takes others with it, nor does one who holds what one of them needs.
func (g *gatherer[T]) all(tasks []T) {
	if len(tasks) == 0 {
		return
	}
	ctx := context.Background()
	if len(tasks) == 1 {
		ctx = tasks[0].asked()
	}
	err := g.write(ctx, func(tx *gorm.DB) error { return g.work(tx, tasks) })
	var trouble *Error
	if err == nil || len(tasks) == 1 || errors.As(err, &trouble) && !inTheWay(err) {
		for _, t := range tasks {
			t.end(err)
		}
		return
	}
	var alone sync.WaitGroup
	for i := range tasks {
		alone.Go(func() { g.all(tasks[i : i+1]) })
	}
	alone.Wait()
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

// tableOf is rows as a table for a statement, which is the same for any number of them: all are one parameter. The columns
// are the fields of the rows, by their names in JSON.
func tableOf[R any](tx *gorm.DB, rows []R) clause.Expr {
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

// columnsOf are the columns of a row as PostgreSQL declares them, or as SQLite takes them out of a value.
func columnsOf[R any](declared bool) (columns []string) {
	for f := range fieldsOf[R]() {
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

func fieldsOf[R any]() iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		of := reflect.TypeFor[R]()
		for i := 0; i < of.NumField() && yield(of.Field(i)); i++ {
		}
	}
}

// insertAll inserts rows, which are without ids, and returns the ids that they got, in their order.
func insertAll[R any](tx *gorm.DB, table string, rows []R) (ids []int64, err error) {
	var names []string
	for f := range fieldsOf[R]() {
		if name := f.Tag.Get("json"); name != "id" {
			names = append(names, name)
		}
	}
	list := strings.Join(names, ", ")
	err = tx.Raw("INSERT INTO "+table+" ("+list+") SELECT "+list+" FROM ? AS x RETURNING id", tableOf(tx, rows)).Scan(&ids).Error
	slices.Sort(ids)
	return ids, err
}
