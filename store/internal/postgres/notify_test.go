package postgres

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The database counts as served as long as one process listens.
func TestMessagesReachListenersAlsoAfterAReconnect(t *testing.T) {
	db := openTest(t)
	conn, err := Connect(t.Context(), db.url)
	check(t, err)
	defer conn.Close(context.Background())
	wantUnserved(t, conn, true)
	unlock(t, conn)

	ctx, stop := context.WithCancel(t.Context())
	received, ended := make(chan string, 10), make(chan struct{})
	attempted, connected := make(chan struct{}), make(chan struct{}, 10)
	go func() {
		defer close(ended)
		db.Listen(ctx, Listener{
			Log:       slog.New(slog.DiscardHandler),
			Attempted: func() { close(attempted) },
			Connected: func() { connected <- struct{}{} },
			Received:  func(payload string) { received <- payload },
		})
	}()
	<-attempted
	<-connected
	wantUnserved(t, conn, false)
	check(t, db.Notify(t.Context(), "one"), db.Notify(t.Context(), "two"))
	if got := []string{<-received, <-received}; !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("received %q", got)
	}

	const cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity " +
		"WHERE datname = current_database() AND query LIKE 'LISTEN%'"
	_, err = conn.Exec(t.Context(), cut)
	check(t, err)
	<-connected // a reconnect
	check(t, db.Notify(t.Context(), "three"))
	if got := <-received; got != "three" {
		t.Errorf("received %q after the reconnect", got)
	}

	stop()
	<-ended
	wantUnserved(t, conn, true)
}

func TestListenReportsAFailedFirstAttempt(t *testing.T) {
	db := &DB{url: "postgres://pbx@127.0.0.1:1/none"}
	ctx, stop := context.WithCancel(t.Context())
	db.Listen(ctx, Listener{
		Log: slog.New(slog.DiscardHandler), Attempted: stop,
		Connected: func() { t.Error("it connected") }, Received: func(string) {},
	})
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("it ended before the first attempt")
	}
}

func wantUnserved(t *testing.T, conn *pgx.Conn, want bool) {
	t.Helper()
	got, err := LockUnserved(t.Context(), conn)
	check(t, err)
	if got != want {
		t.Errorf("no process serves the database: %v, want %v", got, want)
	}
}

func unlock(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	_, err := conn.Exec(t.Context(), "SELECT pg_advisory_unlock_all()")
	check(t, err)
}
