package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/store"
)

type rotateKeyCommand struct {
	storeSettings
	OldKeyFile string `command:"" placeholder:"PATH" required:"" help:"${old_key_file}"`
	NewKeyFile string `command:"" placeholder:"PATH" required:"" help:"${new_key_file}"`
}

// run encrypts the signing secrets of a store with another key.
func (r rotateKeyCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	o, err := r.options()
	if err != nil {
		return err
	}
	var wrong problems
	var newKey []byte
	o.Key, err = keyIn(r.OldKeyFile)
	wrong.addFlag("old-key-file", err)
	newKey, err = keyIn(r.NewKeyFile)
	wrong.addFlag("new-key-file", err)
	if err := wrong.err(); err != nil {
		return err
	}
	warnOfExposedFiles(telemetry.NewLog(stderr, slog.LevelInfo, false), r.OldKeyFile, r.NewKeyFile)
	done, err := store.RotateKey(ctx, o, newKey)
	if err != nil {
		return err
	}
	audit(stderr, "rotateKey", slog.Int("clients", done.Clients), slog.String("key", done.ID))
	_, err = fmt.Fprintf(stdout, "clients %d\nkey     %s\n", done.Clients, done.ID)
	return err
}

// keyIn reads the encryption key in a file.
func keyIn(file string) ([]byte, error) {
	text, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	return parseKey(text)
}
