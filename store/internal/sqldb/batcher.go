package sqldb

import (
	"context"
	"slices"
	"sync"
)

const (
	// maxBatch is how many tasks a transaction takes.
	maxBatch = 256
	// maxTries is how often a task is tried together with others before it is contended: mostly, what it needs is locked for
	// no longer than another transaction takes.
	maxTries = 3
)

// Task is what a caller wants done together with what others want.
type Task interface {
	comparable
	// Context is the caller's.
	Context() context.Context
	// Key is what the task is about, such as an agent or a lane. Tasks of one key are done in turn.
	Key() any
	// End is called once with what became of the task.
	End(err error)
}

// Batcher does in one transaction what is asked for at the same time, with as many statements for all tasks as it would
// take for one. What is asked for while it is at work waits for the next transaction. A task that needs a row that another
// transaction has locked for long is contended: it and those of its key are done apart from the others, so that these do
// not wait for it.
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
	// Work does tasks and has each know what came of it, but for the End. Unless it waits, it leaves out those that need rows
	// which others have locked, and returns them.
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
	txs   []*Tx // whose functions of AfterCommit are for this caller to call
}

// Do returns when what came of a task is durable.
func (b *Batcher[T]) Do(t T) {
	c := &call[T]{task: t, done: make(chan struct{})}
	if b.add(c) {
		b.submit()
	}
	<-c.done
	for _, tx := range c.txs {
		tx.Committed()
	}
}

// Waiting is how many tasks wait for a transaction.
func (b *Batcher[T]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// add has a call wait, and says whether a transaction is to be begun for it.
func (b *Batcher[T]) add(c *call[T]) (begin bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if queue, is := b.contended[c.task.Key()]; is {
		b.contended[c.task.Key()] = append(queue, c)
		return false
	}
	b.waiting = append(b.waiting, c)
	begin, b.busy = !b.busy, true
	return begin
}

// submit has a transaction do what waits when it begins.
func (b *Batcher[T]) submit() {
	b.transact(b.take, false, func(left []*call[T]) {
		b.requeue(left)
		if b.more() {
			b.submit()
		}
	})
}

// transact has a transaction do the tasks of calls, which it takes when it begins but for those whose callers have gone.
// then gets the calls that are to be tried again. It must not block.
func (b *Batcher[T]) transact(take func() []*call[T], wait bool, then func(left []*call[T])) {
	var batch []*call[T]
	var locked []T
	taken := false
	begin := func() {
		if !taken { // the writer may do the work again, or not at all
			batch, taken = slices.DeleteFunc(take(), (*call[T]).gone), true
		}
	}
	work := func(tx *Tx) (err error) {
		begin()
		locked, err = b.work(tx, batch, wait)
		return err
	}
	b.Writer.Submit(work, func(tx *Tx, err error) {
		begin()
		then(b.finish(tx, batch, locked, err, wait))
	})
}

// take returns the calls that wait, as many as one transaction does.
func (b *Batcher[T]) take() []*call[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), maxBatch)
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return batch
}

// more says whether calls wait; if not, the next is to begin a transaction.
func (b *Batcher[T]) more() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy = len(b.waiting) > 0; !b.busy {
		b.waiting = nil
	}
	return b.busy
}

// work does the tasks of calls.
func (b *Batcher[T]) work(tx *Tx, batch []*call[T], wait bool) (locked []T, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	if len(batch) == 1 {
		tx.ActFor(batch[0].task.Context())
	}
	tasks := make([]T, len(batch))
	for i, c := range batch {
		tasks[i] = c.task
	}
	return b.Work(tx, tasks, wait)
}

// finish ends the calls of a transaction and returns those that are to be tried again: what they need is locked, or they
// have failed together, and unless they were contended none takes others with it.
func (b *Batcher[T]) finish(tx *Tx, batch []*call[T], locked []T, err error, contended bool) (left []*call[T]) {
	if len(batch) == 0 {
		return nil
	}
	err = b.Outcome(b.context(batch), err)
	if err != nil && !contended && len(batch) > 1 && !b.Unavailable(err) {
		for _, c := range batch {
			c.tries = maxTries
		}
		return batch
	}
	if err == nil {
		b.assign(tx, batch, locked)
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

// assign has one caller call the functions of AfterCommit: the first whose task is done, if there is one.
func (b *Batcher[T]) assign(tx *Tx, batch []*call[T], locked []T) {
	i := slices.IndexFunc(batch, func(c *call[T]) bool { return !slices.Contains(locked, c.task) })
	c := batch[max(i, 0)]
	c.txs = append(c.txs, tx)
}

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

// runContended does the contended tasks of a key, and waits for what they need.
func (b *Batcher[T]) runContended(key any) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	for batch := b.takeContended(key); batch != nil; batch = b.takeContended(key) {
		for len(batch) > 0 {
			batch = b.wait(batch)
		}
	}
}

// wait does the tasks of calls in a transaction that waits for what they need.
func (b *Batcher[T]) wait(batch []*call[T]) []*call[T] {
	left := make(chan []*call[T], 1)
	b.transact(func() []*call[T] { return batch }, true, func(calls []*call[T]) { left <- calls })
	return <-left
}

func (b *Batcher[T]) takeContended(key any) []*call[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.contended[key]
	if b.contended[key] = nil; len(batch) == 0 {
		delete(b.contended, key)
		return nil
	}
	return batch
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
