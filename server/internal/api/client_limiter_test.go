package api

import (
	"errors"
	"testing"
)

func TestClientLimiter(t *testing.T) {
	l := newClientLimiter(requestBounds{all: 5, clients: 3, perClient: 2})
	acquires := func(client string, want error) {
		t.Helper()
		if err := l.acquire(client); !errors.Is(err, want) {
			t.Errorf("client %q: %v, want %v", client, err, want)
		}
	}
	acquires("a", nil)
	acquires("a", nil)
	acquires("a", errClientBound)
	acquires("b", nil)
	acquires("b", errCommonBound)
	acquires("", nil)
	acquires("", nil)
	acquires("", errCommonBound)
	l.release("a")
	acquires("b", nil)
	acquires("a", errCommonBound)
	l.release("")
	acquires("a", errCommonBound) // the room is an operator's
	acquires("", nil)
	for _, client := range []string{"a", "b", "b", "", ""} {
		l.release(client)
	}
	if l.all != 0 || l.clients != 0 || len(l.byClient) != 0 {
		t.Errorf("after all: %d, %d of clients, %v", l.all, l.clients, l.byClient)
	}
}

// Operators that use more than what is left to them take it from the clients.
func TestOperatorsMayUseAll(t *testing.T) {
	l := newClientLimiter(requestBounds{all: 3, clients: 2, perClient: 2})
	for i, want := range []error{nil, nil, nil, errCommonBound} {
		if err := l.acquire(""); !errors.Is(err, want) {
			t.Errorf("the operator's request %d: %v, want %v", i+1, err, want)
		}
	}
	if err := l.acquire("a"); !errors.Is(err, errCommonBound) {
		t.Errorf("a client: %v", err)
	}
}
