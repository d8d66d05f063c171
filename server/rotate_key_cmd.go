package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/agentevents/agentevents/store"
)

type rotateKeyCommand struct {
	storeSettings
	OldKeyFile string `command:"" placeholder:"PATH" required:"" help:"${old_key_file}"`
	NewKeyFile string `command:"" placeholder:"PATH" required:"" help:"${new_key_file}"`
}

// run encrypts the signing secrets of a store with another key.
func (r rotateKeyCommand) run(ctx context.Context, stdout io.Writer, log *slog.Logger) error {
	o, err := r.options()
	if err != nil {
		return err
	}
	var wrong problems
	o.Key = wrong.keyIn("old-key-file", r.OldKeyFile)
	newKey := wrong.keyIn("new-key-file", r.NewKeyFile)
	if err := wrong.err(); err != nil {
		return err
	}
	warnOfExposedFiles(log, r.OldKeyFile, r.NewKeyFile)
	done, err := store.RotateKey(ctx, o, newKey)
	if err != nil {
		return err
	}
	audit(log, "rotateKey", slog.Int("clients", done.Clients), slog.String("key", done.ID))
	_, err = fmt.Fprintf(stdout, "clients %d\nkey     %s\n", done.Clients, done.ID)
	return err
}

// keyIn reads the encryption key in the file of a flag, and adds its error.
func (p *problems) keyIn(flag, file string) []byte {
	text, err := readSecret(file)
	if err != nil {
		*p = append(*p, fmt.Sprintf("\n  --%s %v", flag, err))
		return nil
	}
	key, err := parseKey(text)
	if err != nil {
		*p = append(*p, fmt.Sprintf("\n  the file of --%s must contain %v", flag, err))
	}
	return key
}
