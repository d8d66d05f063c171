package sqldb

import (
	"context"
	"slices"
	"sync"
)

const (
	// maxBatch is the number of tasks in one transaction.
	maxBatch = 256
	// maxTries is the number of transactions that a task shares with others before it is contended. Most locks last no
	// longer than one transaction.
	maxTries = 3
)

// Task is a caller's part of a shared transaction.
type Task interface {
	comparable
	// Context is the context of the caller.
	Context() context.Context
	// Key identifies the subject of the task, such as an agent or a lane. A transaction processes the tasks of one key
	// in turn.
	Key() any
	// End is called once, with the error of the task or nil.
	End(err error)
}

// Batcher processes simultaneous tasks in one transaction, with as many statements for all of them as for one. Tasks
// that arrive during a transaction wait for the next one.
//
// A task is contended if it needs a row that another transaction has locked for long, or if its batch has failed. The
// contended tasks of one key, and later tasks with that key, share transactions apart from all others. Other tasks do
// not wait for them.
type Batcher[T Task] struct {
	BatcherOptions[T]

	mu        sync.Mutex
	waiting   []*call[T]
	busy      bool
	contended map[any][]*call[T] // by key
	limiter   chan struct{}      // has one element for each transaction with contended tasks
}

// BatcherOptions configure a Batcher. All fields are required.
type BatcherOptions[T Task] struct {
	Writer Writer
	// Process executes tasks and stores the result in each of them; the Batcher calls End. If wait is false, it skips
	// the tasks that need rows locked by other transactions, and returns them.
	Process func(tx *Tx, tasks []T, wait bool) (locked []T, err error)
	// MapError maps the writer's result to the callers' error. It must not block.
	MapError func(ctx context.Context, err error) error
	// Unavailable reports whether an error, as MapError returned it, concerns the database and so would be the error of
	// any other task.
	Unavailable func(err error) bool
	// MaxContended is the maximum number of simultaneous transactions with contended tasks, at least one.
	MaxContended int
}

// NewBatcher returns a Batcher, which works as long as its writer does.
func NewBatcher[T Task](o BatcherOptions[T]) *Batcher[T] {
	return &Batcher[T]{BatcherOptions: o, contended: map[any][]*call[T]{}, limiter: make(chan struct{}, o.MaxContended)}
}

// call is a caller that waits for its task.
type call[T Task] struct {
	task  T
	tries int // transactions in which a row that it needs was locked; maxTries after its batch has failed
	done  chan struct{}
}

// Do processes a task and returns after its End. The result is then durable, or End got the error.
func (b *Batcher[T]) Do(t T) {
	c := &call[T]{task: t, done: make(chan struct{})}
	b.add(c)
	<-c.done
}

// Waiting returns the number of tasks that wait for a shared transaction, for tests.
func (b *Batcher[T]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// add queues a call, and starts the goroutine that processes the queue if it does not run.
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

// run processes the queue, one batch in each transaction. It takes a batch only when the batch before has ended. It
// does not take a batch in the writer's goroutine: batches would be smaller, and sending would get less processor time.
func (b *Batcher[T]) run() {
	for batch := b.take(); batch != nil; batch = b.take() {
		b.requeue(b.transact(batch, false))
	}
}

// take removes a batch from the queue. If the queue is empty, it returns nil, and the next call starts run again.
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

// transact processes the tasks of calls in one transaction, except for cancelled calls. It returns the calls that must
// be retried.
func (b *Batcher[T]) transact(batch []*call[T], wait bool) (left []*call[T]) {
	batch = slices.DeleteFunc(batch, (*call[T]).endIfCancelled)
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
		locked, err = b.Process(tx, tasks, wait)
		return err
	})
	return b.finish(batch, locked, b.MapError(ctx, err), wait)
}

// finish ends the calls of a transaction, and returns those that must be retried. These are calls that need a locked
// row, and calls of a batch that failed: they become contended, so that the failing task fails only tasks of its key.
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

// context returns the context of the only call. If there are several, it returns context.Background, since no caller
// may cancel the others.
func (b *Batcher[T]) context(batch []*call[T]) context.Context {
	if len(batch) == 1 {
		return batch[0].task.Context()
	}
	return context.Background()
}

// requeue queues calls again, or makes them contended after maxTries.
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

// contend adds a call to the contended calls of its key.
func (b *Batcher[T]) contend(c *call[T]) {
	key := c.task.Key()
	if _, begun := b.contended[key]; !begun {
		go b.runContended(key)
	}
	b.contended[key] = append(b.contended[key], c)
}

// runContended processes the contended calls of a key until none is left.
func (b *Batcher[T]) runContended(key any) {
	for b.processContended(key) {
	}
}

// processContended processes a batch of contended calls of a key, waits for the locks that they need, and reports
// whether there were any. It releases the limiter after each batch, so that other keys get their turn.
func (b *Batcher[T]) processContended(key any) (more bool) {
	b.limiter <- struct{}{}
	defer func() { <-b.limiter }()
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

// endIfCancelled ends a call whose context has ended, and reports whether it did.
func (c *call[T]) endIfCancelled() bool {
	err := c.task.Context().Err()
	if err != nil {
		c.end(err)
	}
	return err != nil
}

// Waves divides tasks into waves. Each wave has a key at most once, and the tasks of one key keep their order.
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
