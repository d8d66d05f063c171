package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	// superuser is the owner of a cluster. The machine's user that runs the server may have another name.
	superuser = "postgres"
	// prefix of the names of databases.
	prefix = "agentevents_test_"
)

// Server is a running PostgreSQL server, in which tests create databases.
type Server struct{ url string }

// At returns the server of a URL (postgres://user:password@host:port/database?…), whose user may create databases.
func At(url string) *Server { return &Server{url: url} }

// URL returns the URL of a database of the server.
func (s *Server) URL(database string) string {
	u, err := url.Parse(s.url)
	if err != nil {
		return s.url // a connection reports the error
	}
	u.Path = "/" + database
	return u.String()
}

// Ping returns nil if the server answers.
func (s *Server) Ping(ctx context.Context) error { return s.exec(ctx, "SELECT 1") }

// Create creates an empty database with a unique name, and returns its URL.
func (s *Server) Create(ctx context.Context) (string, error) {
	return s.create(ctx, " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
}

// Copy copies a database, given by its URL, to one with a unique name, and returns the copy's URL. The original must
// have no connections. A copy is much faster than all the migrations.
func (s *Server) Copy(ctx context.Context, template string) (string, error) {
	name, err := databaseName(template)
	if err != nil {
		return "", err
	}
	return s.create(ctx, " TEMPLATE "+name)
}

func (s *Server) create(ctx context.Context, how string) (string, error) {
	name := prefix + strings.ToLower(rand.Text())
	if err := s.exec(ctx, "CREATE DATABASE "+name+how); err != nil {
		return "", fmt.Errorf("create a database: %w", err)
	}
	return s.URL(name), nil
}

// Drop removes a database, given by its URL, and ends all connections to it. A database that does not exist is no
// error.
func (s *Server) Drop(ctx context.Context, url string) error {
	name, err := databaseName(url)
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop a database: %w", err)
	}
	return nil
}

// databaseName returns the name of the database in a URL, quoted.
func databaseName(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return pgx.Identifier{strings.TrimPrefix(u.Path, "/")}.Sanitize(), nil
}

func (s *Server) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}
