package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// applicationCommands are what an operator does about applications beside the API. Their flags have no variables.
type applicationCommands struct {
	Create createCommand `cmd:"" help:"Make an application and print its id and its secret, which is shown this once."`
	List   listCommand   `cmd:"" help:"List the applications of the operator and of all clients."`
	Revoke revokeCommand `cmd:"" help:"Delete an application; within a second its tokens are refused."`
}

type createCommand struct {
	Client   string          `command:"" placeholder:"ID" xor:"whose" help:"Client that it belongs to. Either this or --operator is required."`
	Operator bool            `command:"" xor:"whose" help:"It is the operator's, and may do everything for every client. Either this or --client is required."`
	Name     string          `command:"" required:"" help:"Its name, for people to read."`
	Access   gen.AccessLevel `command:"" enum:",all,call_api,read_only" default:"" help:"What it may do for its client: all, call_api (no agents and no status) or read_only; all unless given."`
}

// Validate is called by kong, whose own check would make its help ask for both.
func (c createCommand) Validate() error {
	if c.Client == "" && !c.Operator {
		return errors.New("either --client=ID or --operator is required")
	}
	return nil
}

type listCommand struct{}

type revokeCommand struct {
	ID string `arg:"" help:"Id of the application."`
}

// beside runs a function on the store, which may be served at the same time.
func (s settings) beside(ctx context.Context, fn func(*store.Store) error) error {
	c, err := s.validate()
	if err != nil {
		return err
	}
	st, err := store.OpenBeside(ctx, store.Options{URL: c.databaseURL, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(fn(st), st.Close())
}

func (c createCommand) run(ctx context.Context, s settings, stdout io.Writer) error {
	return s.beside(ctx, func(st *store.Store) error {
		made, err := c.create(ctx, st)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "id     %s\nsecret %s\n", made.ID, made.Secret)
		return err
	})
}

func (c createCommand) create(ctx context.Context, st *store.Store) (gen.ApplicationSecret, error) {
	n := len([]rune(c.Name))
	switch {
	case n < 1 || n > 255 || strings.ContainsFunc(c.Name, unicode.IsControl):
		return gen.ApplicationSecret{}, errors.New("--name must be 1 to 255 characters long, without control characters")
	case c.Operator && c.Access != "":
		return gen.ApplicationSecret{}, errors.New("--access is for a client's application: an operator's may do everything")
	case c.Operator:
		return st.CreateOperator(ctx, c.Name)
	}
	return st.CreateApplication(ctx, c.Client, gen.ApplicationCreate{Name: c.Name, Access: cmp.Or(c.Access, gen.AccessLevelAll)})
}

func (listCommand) run(ctx context.Context, s settings, stdout io.Writer) error {
	return s.beside(ctx, func(st *store.Store) error {
		all, err := st.AllApplications(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tCLIENT\tACCESS\tCREATED\tNAME")
		for _, a := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.ID, a.Client, a.Access, a.CreatedAt.Format("2006-01-02T15:04:05.000Z"), a.Name)
		}
		return w.Flush()
	})
}

func (c revokeCommand) run(ctx context.Context, s settings, stdout io.Writer) error {
	return s.beside(ctx, func(st *store.Store) error {
		if err := st.RevokeApplication(ctx, c.ID); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "revoked %s\n", c.ID)
		return err
	})
}
