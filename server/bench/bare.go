package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// Bare answers over the same web framework as the program with what it was told before. Its exported methods are called
// from another process.
type Bare struct{}

// Open begins to serve answers, by their method and pattern ("GET /path/:name"), and returns the address.
func (*Bare) Open(answers map[string][]byte, addr *string) (err error) {
	e := echo.New()
	for route, body := range answers {
		method, pattern, _ := strings.Cut(route, " ")
		e.Add(method, pattern, func(c echo.Context) error { return c.JSONBlob(http.StatusOK, body) })
	}
	*addr, err = listen(e)
	return err
}

const bareName = "bare"

// bare is a Bare.
type bare struct{ answers map[string][]byte }

func (bare) name() string { return bareName }

func (b bare) serve(ctx context.Context, fn func(*site) error) (err error) {
	p, err := startProcess(ctx, bareRole)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	s := site{pid: p.pid(), token: "none"}
	if err := p.rpc.Call("Bare.Open", b.answers, &s.addr); err != nil {
		return err
	}
	return fn(&s)
}
