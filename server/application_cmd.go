package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// applicationCommands manage applications directly in the store. Environment variables do not set their flags.
type applicationCommands struct {
	Create createCommand `cmd:"" group:"Applications" help:"${application_create}"`
	List   listCommand   `cmd:"" group:"Applications" help:"${application_list}"`
	Revoke revokeCommand `cmd:"" group:"Applications" help:"${application_revoke}"`
}

type createCommand struct {
	storeSettings
	Client   string           `command:"" placeholder:"ID" xor:"owner" help:"${create_client}"`
	Operator bool             `command:"" xor:"owner" help:"${create_operator}"`
	Name     string           `command:"" placeholder:"NAME" required:"" help:"${create_name}"`
	Access   *gen.AccessLevel `command:"" placeholder:"LEVEL" help:"${create_access}"`
}

// Validate is the hook by which kong checks a command. The tag "required" would make the help demand both flags. The
// tag "enum" would allow an empty access, as of a variable that is not set, and it would mean the most.
func (c createCommand) Validate() error {
	levels := []gen.AccessLevel{gen.AccessLevelAll, gen.AccessLevelCallAPI, gen.AccessLevelReadOnly}
	switch {
	case c.Client == "" && !c.Operator:
		return errors.New("either --client=ID or --operator is required")
	case c.Access != nil && !slices.Contains(levels, *c.Access):
		return errors.New("--access must be one of: all, call_api, read_only")
	}
	return nil
}

type listCommand struct{ storeSettings }

type revokeCommand struct {
	storeSettings
	ID string `arg:"" help:"${revoke_id}"`
}

func (c createCommand) run(ctx context.Context, stdout io.Writer, log *slog.Logger) error {
	return c.withStore(ctx, func(st *store.Store) error {
		created, err := c.create(ctx, st)
		if err != nil {
			return err
		}
		audit(log, "createApplication", slog.String("created", created.ID), slog.String("client", c.Client),
			slog.String("access", string(created.Access)))
		_, err = fmt.Fprintf(stdout, "id     %s\nsecret %s\n", created.ID, created.Secret)
		return err
	})
}

func (c createCommand) create(ctx context.Context, st *store.Store) (gen.ApplicationSecret, error) {
	n := len([]rune(c.Name))
	switch {
	case n < 1 || n > 255 || strings.ContainsFunc(c.Name, unicode.IsControl):
		return gen.ApplicationSecret{}, errors.New(
			"--name must be 1 to 255 characters long, without control characters")
	case c.Operator && c.Access != nil:
		return gen.ApplicationSecret{}, errors.New(
			"--access is valid only with --client: an operator has full access")
	case c.Operator:
		return st.CreateOperator(ctx, c.Name)
	}
	access := gen.AccessLevelAll
	if c.Access != nil {
		access = *c.Access
	}
	created, err := st.CreateApplication(ctx, c.Client, gen.ApplicationCreate{Name: c.Name, Access: access})
	var known *store.Error
	if errors.As(err, &known) && known.Kind == store.NotFound {
		err = fmt.Errorf("%w: create it first, by PUT /client/%s", err, c.Client)
	}
	return created, err
}

func (c listCommand) run(ctx context.Context, stdout io.Writer) error {
	return c.withStore(ctx, func(st *store.Store) error {
		all, err := st.AllApplications(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tCLIENT\tACCESS\tCREATED\tNAME")
		for _, a := range all {
			at := a.CreatedAt.Format("2006-01-02T15:04:05.000Z")
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.ID, a.Client, a.Access, at, a.Name)
		}
		return w.Flush()
	})
}

func (c revokeCommand) run(ctx context.Context, stdout io.Writer, log *slog.Logger) error {
	return c.withStore(ctx, func(st *store.Store) error {
		if err := st.RevokeApplication(ctx, c.ID); err != nil {
			return err
		}
		audit(log, "deleteApplication", slog.String("deleted", c.ID))
		_, err := fmt.Fprintf(stdout, "revoked %s\n", c.ID)
		return err
	})
}
