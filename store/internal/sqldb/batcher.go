package sqldb

import (
	"context"
	"slices"
	"sync"
)

const (
	// maxBatch is how many tasks a transaction takes.
	maxBatch = 256
	// maxTries is how often a task is tried together with others before it is contended: mostly, what it needs is
	// locked for no longer than another transaction takes.
	maxTries = 3
)

// Task is what a caller wants done together with what others want.
type Task interface {
	comparable
	// Context is the caller's.
	Context() context.Context
	// Key is what the task is about, such as an agent or a lane. One transaction does tasks of one key in turn.
	Key() any
	// End is called once with what became of the task.
	End(err error)
}

// Batcher does in one transaction what is asked for at the same time, with as many statements for all tasks as it would
// take for one. What is asked for while it is at work waits for the next transaction. A task that needs a row that
// another transaction has locked for long is contended: it, and what is asked for its key from then on, is done apart
// from the others, so that these do not wait for it.
type Batcher[T Task] struct {
	BatcherOptions[T]

	mu        sync.Mutex
	waiting   []*call[T]
	busy      bool
	contended map[any][]*call[T] // by their keys
	slots     chan struct{}      // one for each transaction with contended tasks
}

// BatcherOptions are what a Batcher is made of.
type BatcherOptions[T Task] struct {
	Writer Writer
	// Work does tasks and has each know what came of it, but for the End. Unless it waits, it leaves out those that
	// need rows which others have locked, and returns them.
	Work func(tx *Tx, tasks []T, wait bool) (locked []T, err error)
	// Outcome makes what the writer returns what the callers get. It must not block.
	Outcome func(ctx context.Context, err error) error
	// Unavailable says whether an error, as Outcome has it, is of the database and so would be any other task's.
	Unavailable func(err error) bool
	// Contended is how many transactions with contended tasks there may be at once, at least one.
	Contended int
}

// NewBatcher returns one that is at work as long as its writer is.
func NewBatcher[T Task](o BatcherOptions[T]) *Batcher[T] {
	return &Batcher[T]{BatcherOptions: o, contended: map[any][]*call[T]{}, slots: make(chan struct{}, o.Contended)}
}

// call is a caller that waits for its task.
type call[T Task] struct {
	task  T
	tries int // in which what it needs was locked
	done  chan struct{}
}

// Do returns when what came of a task is durable.
func (b *Batcher[T]) Do(t T) {
	c := &call[T]{task: t, done: make(chan struct{})}
	b.add(c)
	<-c.done
}

// Waiting is how many tasks wait for a transaction.
func (b *Batcher[T]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// add has a call wait, and begins to work unless that is under way.
func (b *Batcher[T]) add(c *call[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if queue, is := b.contended[c.task.Key()]; is {
		b.contended[c.task.Key()] = append(queue, c)
		return
	}
	b.waiting = append(b.waiting, c)
	if !b.busy {
		b.busy = true
		go b.run()
	}
}

// run does what waits, a batch in each transaction. That it takes a batch only when the one before has ended, and on a
// goroutine of its own, lets tasks gather meanwhile: batches that the writer's own goroutine took at once were smaller,
// and on SQLite left less of the processor to what sends deliveries.
func (b *Batcher[T]) run() {
	for batch := b.take(); batch != nil; batch = b.take() {
		b.requeue(b.transact(batch, false))
	}
}

// take returns the calls that wait, as many as one transaction does. Without any, the next call begins to work.
func (b *Batcher[T]) take() []*call[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), maxBatch)
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	if n == 0 {
		b.busy, b.waiting = false, nil
		return nil
	}
	return batch
}

// transact does the tasks of calls in one transaction, but for those whose callers have gone, and returns the calls
// that are to be tried again.
func (b *Batcher[T]) transact(batch []*call[T], wait bool) (left []*call[T]) {
	batch = slices.DeleteFunc(batch, (*call[T]).gone)
	if len(batch) == 0 {
		return nil
	}
	tasks := make([]T, len(batch))
	for i, c := range batch {
		tasks[i] = c.task
	}
	var locked []T
	ctx := b.context(batch)
	err := b.Writer.Do(ctx, func(tx *Tx) (err error) {
		locked, err = b.Work(tx, tasks, wait)
		return err
	})
	return b.finish(batch, locked, b.Outcome(ctx, err), wait)
}

// finish ends the calls of a transaction and returns those that are to be tried again: what they need is locked, or
// they have failed together, and unless they were contended none takes others with it.
func (b *Batcher[T]) finish(batch []*call[T], locked []T, err error, contended bool) (left []*call[T]) {
	if err != nil && !contended && len(batch) > 1 && !b.Unavailable(err) {
		for _, c := range batch {
			c.tries = maxTries
		}
		return batch
	}
	for _, c := range batch {
		if err == nil && slices.Contains(locked, c.task) {
			left = append(left, c)
		} else {
			c.end(err)
		}
	}
	return left
}

// context is the caller's, if there is only one.
func (b *Batcher[T]) context(batch []*call[T]) context.Context {
	if len(batch) == 1 {
		return batch[0].task.Context()
	}
	return context.Background()
}

// requeue has calls tried with others once more, or makes them contended.
func (b *Batcher[T]) requeue(left []*call[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range left {
		if c.tries++; c.tries < maxTries {
			b.waiting = append(b.waiting, c)
		} else {
			b.contend(c)
		}
	}
}

// contend adds a call to the contended ones.
func (b *Batcher[T]) contend(c *call[T]) {
	key := c.task.Key()
	if _, begun := b.contended[key]; !begun {
		go b.runContended(key)
	}
	b.contended[key] = append(b.contended[key], c)
}

// runContended does the contended tasks of a key until there are none.
func (b *Batcher[T]) runContended(key any) {
	for b.doContended(key) {
	}
}

// doContended does contended tasks of a key, as many as one transaction does, and waits for what they need. It returns
// whether there were any. After each batch, another key has its turn.
func (b *Batcher[T]) doContended(key any) (more bool) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	batch := b.takeContended(key)
	more = len(batch) > 0
	for len(batch) > 0 {
		batch = b.transact(batch, true)
	}
	return more
}

func (b *Batcher[T]) takeContended(key any) []*call[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.contended[key]
	if len(queue) == 0 {
		delete(b.contended, key)
		return nil
	}
	n := min(len(queue), maxBatch)
	b.contended[key] = queue[n:]
	return queue[:n:n]
}

func (c *call[T]) end(err error) {
	c.task.End(err)
	close(c.done)
}

// gone ends a call whose caller does not want it any more, and says whether that is so.
func (c *call[T]) gone() bool {
	err := c.task.Context().Err()
	if err != nil {
		c.end(err)
	}
	return err != nil
}

// Waves parts tasks so that in each wave no key is twice, and the tasks of one key stay in their order.
func Waves[T any, K comparable](tasks []T, key func(T) K) (waves [][]T) {
	next := map[K]int{}
	for _, t := range tasks {
		n := next[key(t)]
		next[key(t)]++
		if n == len(waves) {
			waves = append(waves, nil)
		}
		waves[n] = append(waves[n], t)
	}
	return waves
}
