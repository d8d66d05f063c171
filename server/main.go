package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal stops gracefully, the second kills
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

const description = `Tells other systems, at once and without a gap, when a call centre's queue agent logs in or out.

Every setting is a flag, or the environment variable that is named with it; the flag wins, and an empty variable
counts as none. Setting AGENTEVENTS_ADDR=:8080 is the same as --addr=:8080.`

// commands is what the command line may say.
type commands struct {
	settings
	known       []string            // variables
	Serve       struct{}            `cmd:"" help:"Serve the API and carry out deliveries, until SIGINT or SIGTERM; a second one kills."`
	Verify      struct{}            `cmd:"" help:"Check the store, also while it is served, and say what is wrong with it; nothing is changed."`
	Backup      backupCommand       `cmd:"" help:"Copy an SQLite store, also while it is served, into a file that may be put in its place."`
	Copy        copyCommand         `cmd:"" help:"Copy an SQLite store that nobody serves into a PostgreSQL database; when it was interrupted, run it again."`
	NewEpoch    struct{}            `cmd:"" help:"Give the store another epoch, after it was restored from anything but a copy that backup made, before it is served."`
	Application applicationCommands `cmd:"" help:"Make, list and revoke the applications that get tokens, also while the store is served."`
	Version     struct{}            `cmd:"" help:"Print what was built: version, commit, Go and platform."`
}

const (
	exitFailed = 1
	exitUsage  = 2
)

// run is the whole program but for its process, and returns the exit code.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	var line commands
	vars := variables(env)
	command, err := parse(&line, args, vars, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "agentevents: %v (agentevents --help explains)\n", err)
		return exitUsage
	}
	switch command {
	case "serve":
		err = serve(ctx, line.settings, vars.unknown(line.known), stdout, stderr)
	case "backup":
		err = line.Backup.run(ctx, line.settings, stdout)
	case "new-epoch":
		err = newEpoch(ctx, line.settings, stdout)
	case "application create":
		err = line.Application.Create.run(ctx, line.settings, stdout)
	case "application list":
		err = line.Application.List.run(ctx, line.settings, stdout)
	case "application revoke <id>":
		err = line.Application.Revoke.run(ctx, line.settings, stdout)
	case "verify":
		err = verify(ctx, line.settings, stdout)
	case "copy":
		err = line.Copy.run(ctx, stdout, stderr)
	case "version":
		_, err = fmt.Fprint(stdout, build())
	}
	if err != nil {
		fmt.Fprintf(stderr, "agentevents: %v\n", err)
		return exitFailed
	}
	return 0
}

// parse reads the command line, and variables for what it does not say. It returns the command that was asked for, or
// none when it was help, which is given.
func parse(line *commands, args []string, vars vars, stdout, stderr io.Writer) (command string, err error) {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	line.env = vars
	helped := false
	parser, err := kong.New(line, kong.Name("agentevents"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }), kong.Resolvers(vars.resolver()),
		kong.ValueFormatter(withVariable), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return "", err
	}
	line.known = []string{variable(operatorSecret), variable(encryptionKey)}
	for _, flag := range parser.Model.Flags {
		line.known = append(line.known, variable(flag.Name))
	}
	parsed, err := parser.Parse(args)
	if helped {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return parsed.Command(), nil
}
