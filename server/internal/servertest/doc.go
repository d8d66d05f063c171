// Package servertest has what the tests of main and of server/internal/api share: a direct connection to the database,
// and the number of waiting polls. Only tests import it.
package servertest
