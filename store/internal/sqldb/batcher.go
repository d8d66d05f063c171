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
	// Owner identifies who the task is for, such as a client. Owners take turns. All tasks of a key have one owner.
	Owner() any
	// End is called once, with the error of the task or nil.
	End(err error)
}

// Batcher processes simultaneous tasks in one transaction, with as many statements for all of them as for one. Tasks
// that arrive during a transaction wait for the next one.
//
// The owners of tasks take turns, so that one with many tasks delays no other. A transaction is bounded: Process defers
// tasks that would write too much. An owner none of whose tasks was processed has the next turn.
//
// A task is contended if it needs a row that another transaction has locked for long, or if its batch has failed. The
// contended tasks of one key, and later tasks with that key, share transactions apart from all others. Other tasks do
// not wait for them.
type Batcher[T Task] struct {
	BatcherOptions[T]

	mu        sync.Mutex
	queue     turns[T] // includes the calls of the running transaction
	running   int      // the number of calls in the running transaction
	busy      bool
	contended map[any][]*call[T] // by key
	limiter   chan struct{}      // has one element for each transaction with contended tasks
}

// BatcherOptions configure a Batcher. All fields are required.
type BatcherOptions[T Task] struct {
	Writer Writer
	// Process executes tasks and stores the result in each of them; the Batcher calls End. It returns the tasks that it
	// has skipped. If it defers a task, it skips the later tasks of its key, too.
	Process func(tx *Tx, tasks []T, wait bool) (s Skipped[T], err error)
	// MapError maps the writer's result to the callers' error. It must not block.
	MapError func(ctx context.Context, err error) error
	// Unavailable reports whether an error, as MapError returned it, concerns the database and so would be the error of
	// any other task.
	Unavailable func(err error) bool
	// MaxContended is the maximum number of simultaneous transactions with contended tasks, at least one.
	MaxContended int
}

// Skipped are the tasks that a transaction has not processed. The Batcher retries them.
type Skipped[T Task] struct {
	Locked   []T // they need rows that other transactions have locked; none if wait is true
	Deferred []T // they would make the transaction too long; never all tasks
}

// NewBatcher returns a Batcher, which works as long as its writer does.
func NewBatcher[T Task](o BatcherOptions[T]) *Batcher[T] {
	return &Batcher[T]{
		BatcherOptions: o, queue: turns[T]{byKey: map[any]*owner[T]{}}, contended: map[any][]*call[T]{},
		limiter: make(chan struct{}, o.MaxContended),
	}
}

// call is a caller that waits for its task.
type call[T Task] struct {
	task  T
	tries int // transactions in which a row that it needs was locked; maxTries after its batch has failed
	ended bool
	done  chan struct{}
}

// Do processes tasks and returns after their End. Their results are then durable, or End got the error. The tasks may
// be in different transactions. Those of one key are processed in turn.
func (b *Batcher[T]) Do(tasks ...T) {
	calls := make([]*call[T], len(tasks))
	for i, t := range tasks {
		calls[i] = &call[T]{task: t, done: make(chan struct{})}
	}
	b.add(calls)
	for _, c := range calls {
		<-c.done
	}
}

// Waiting returns the number of tasks that wait for a shared transaction, for tests.
func (b *Batcher[T]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.waiting - b.running
}

// add queues calls, and starts the goroutine that processes the queue if it does not run.
func (b *Batcher[T]) add(calls []*call[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		if queue, is := b.contended[c.task.Key()]; is {
			b.contended[c.task.Key()] = append(queue, c)
		} else {
			b.queue.add(c)
		}
	}
	if !b.busy && b.queue.waiting > 0 {
		b.busy = true
		go b.run()
	}
}

// run processes the queue, one batch in each transaction. It takes a batch only when the batch before has ended. It
// does not take a batch in the writer's goroutine: batches would be smaller, and sending would get less processor time.
func (b *Batcher[T]) run() {
	var left []*call[T]
	for batch := b.next(nil); len(batch) > 0; batch = b.next(left) {
		left = b.transact(batch, false)
	}
}

// next returns the next batch, after a batch of which left must be retried: these calls keep their places in the queue,
// or become contended after maxTries. If the queue is empty, the next call starts run again.
func (b *Batcher[T]) next(left []*call[T]) []*call[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range left {
		if c.tries >= maxTries {
			b.contend(c.task.Key())
		}
	}
	b.queue.remove(b.leavesQueue)
	batch := b.queue.first(maxBatch)
	b.running, b.busy = len(batch), len(batch) > 0
	return batch
}

// leavesQueue reports whether a call has ended or its key is contended, and adds it to the contended calls of its key.
func (b *Batcher[T]) leavesQueue(c *call[T]) bool {
	if c.ended || len(b.contended) == 0 {
		return c.ended
	}
	queue, is := b.contended[c.task.Key()]
	if is {
		b.contended[c.task.Key()] = append(queue, c)
	}
	return is
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
	var skipped Skipped[T]
	ctx := b.context(batch)
	err := b.Writer.Do(ctx, func(tx *Tx) (err error) {
		skipped, err = b.Process(tx, tasks, wait)
		return err
	})
	return b.finish(batch, skipped, b.MapError(ctx, err), wait)
}

// finish ends the calls of a transaction, and returns those that must be retried. These are the skipped calls, and
// the calls of a batch that failed: they become contended, so that the failing task fails only tasks of its key.
func (b *Batcher[T]) finish(batch []*call[T], skipped Skipped[T], err error, contended bool) (left []*call[T]) {
	if err != nil && !contended && len(batch) > 1 && !b.Unavailable(err) {
		for _, c := range batch {
			c.tries = maxTries
		}
		return batch
	}
	for _, c := range batch {
		switch {
		case err == nil && slices.Contains(skipped.Locked, c.task):
			c.tries++
			left = append(left, c)
		case err == nil && slices.Contains(skipped.Deferred, c.task):
			left = append(left, c)
		default:
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

// contend makes a key contended.
func (b *Batcher[T]) contend(key any) {
	if _, is := b.contended[key]; !is {
		b.contended[key] = nil
		go b.runContended(key)
	}
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
	c.ended = true
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
