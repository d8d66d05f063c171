package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// silent returns a connection to a server that sends only the bytes of the test.
func silent(t *testing.T) (conn, server net.Conn) {
	t.Helper()
	ours, server := net.Pipe()
	dial := withReadDeadline(func(context.Context, string, string) (net.Conn, error) { return ours, nil })
	conn, err := dial(t.Context(), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), server.Close() })
	return conn, server
}

// The deadline begins again with each byte of the server.
func TestReadEndsWithoutAResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := silent(t)
		go func() {
			time.Sleep(readTimeout)
			_, _ = server.Write([]byte{1})
		}()
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Errorf("a server that takes %v: %v", readTimeout, err)
		}
		began := time.Now()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !IsUnavailable(err) {
			t.Errorf("a server that does not respond: %v", err)
		}
		if took := time.Since(began); took != responseTimeout {
			t.Errorf("the read took %v, want %v", took, responseTimeout)
		}
	})
}

// The driver sets a deadline when a request is cancelled, for example.
func TestReadKeepsTheDriversDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _ := silent(t)
		setters := map[string]func(time.Time) error{"all": conn.SetDeadline, "reads": conn.SetReadDeadline}
		for name, set := range setters {
			began := time.Now()
			if err := set(began.Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			_, err := conn.Read(make([]byte, 1))
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Second {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		}
		if err := conn.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := conn.Read(make([]byte, 1)); time.Since(began) != responseTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
