// Package servertest has what tests of main and of server/internal/api share: a database connection past the store,
// and how many polls wait. Only tests import it.
package servertest
