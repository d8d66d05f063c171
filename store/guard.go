package store

import "database/sql"

// guard has the keeper look after the file while the writer writes. Without a keeper it does nothing.
type guard struct {
	*keeper
	commits int // since the log was looked at
}

// Lost implements sqlite.Guard.
func (g *guard) Lost() error { return g.lost() }

// Confirm implements sqlite.Guard.
func (g *guard) Confirm() error { return g.confirm() }

// Committed implements sqlite.Guard. It looks now and then whether the log is to be carried over to the file. Much of it, as
// after a reader has held it up, it leaves to who tends the file, on another connection: writes need not wait for that.
func (g *guard) Committed(conn *sql.Conn) {
	if g.commits++; g.keeper == nil || g.commits < carryLook {
		return
	}
	g.commits = 0
	p, err := checkpoint(conn, "NOOP")
	if left := p.Log - p.Checkpointed; err == nil && p.Log >= carryPages && left > 0 && left <= writerPages {
		_, _ = g.carry(conn) // which notes an error
	}
}
