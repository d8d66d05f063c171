package sqldb

import "slices"

// turns is a queue in which the owners of the calls take turns. The calls of one owner keep their order.
type turns[T Task] struct {
	owners  []*owner[T] // those with calls, in the order of their turns
	byKey   map[any]*owner[T]
	waiting int // the number of calls
}

// owner is an owner of calls that wait.
type owner[T Task] struct {
	key   any
	calls []*call[T]
}

func (q *turns[T]) add(c *call[T]) {
	key := c.task.Owner()
	o := q.byKey[key]
	if o == nil {
		o = &owner[T]{key: key}
		q.byKey[key] = o
		q.owners = append(q.owners, o)
	}
	o.calls = append(o.calls, c)
	q.waiting++
}

// first returns the next calls, at most n. They stay in the queue.
func (q *turns[T]) first(n int) []*call[T] {
	n = min(n, q.waiting)
	next := make([]*call[T], 0, n)
	for turn := 0; len(next) < n; turn++ {
		for _, o := range q.owners {
			if turn < len(o.calls) && len(next) < n {
				next = append(next, o.calls[turn])
			}
		}
	}
	return next
}

// remove removes calls. The next turn of their owners comes after those of the other owners.
func (q *turns[T]) remove(gone func(*call[T]) bool) {
	var served []*owner[T]
	q.owners = slices.DeleteFunc(q.owners, func(o *owner[T]) bool {
		before := len(o.calls)
		o.calls = slices.DeleteFunc(o.calls, gone)
		q.waiting -= before - len(o.calls)
		switch len(o.calls) {
		case before:
			return false
		case 0:
			delete(q.byKey, o.key)
		default:
			served = append(served, o)
		}
		return true
	})
	q.owners = append(q.owners, served...)
}
