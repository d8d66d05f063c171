package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/agentevents/agentevents/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal stops gracefully, the second kills
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// commands are the commands and flags of the command line, in the form that kong parses.
type commands struct {
	known       []string            // the variables of all settings
	Serve       settings            `cmd:"" group:"Server" help:"${command_serve}"`
	Version     versionCommand      `cmd:"" group:"Server" help:"${command_version}"`
	Application applicationCommands `cmd:"" help:"${command_application}"`
	Verify      verifyCommand       `cmd:"" group:"Store" help:"${command_verify}"`
	Backup      backupCommand       `cmd:"" group:"Store" help:"${command_backup}"`
	Copy        copyCommand         `cmd:"" group:"Store" help:"${command_copy}"`
	NewEpoch    newEpochCommand     `cmd:"" group:"Store" help:"${command_new_epoch}"`
	RotateKey   rotateKeyCommand    `cmd:"" group:"Store" help:"${command_rotate_key}"`
}

const (
	exitFailed = 1
	exitUsage  = 2
)

// run runs the program and returns its exit code. Tests call it in their process.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	var line commands
	set := variables(env)
	command, err := parse(&line, args, set, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "agentevents: %v\n", err)
		return exitUsage
	}
	log := commandLog(stderr, set)
	switch command {
	case "serve":
		err = serve(ctx, line.Serve, set.unknown(line.known), stdout, stderr)
	case "backup":
		err = line.Backup.run(ctx, stdout)
	case "new-epoch":
		err = line.NewEpoch.run(ctx, stdout, log)
	case "rotate-key":
		err = line.RotateKey.run(ctx, stdout, log)
	case "application create":
		err = line.Application.Create.run(ctx, stdout, log)
	case "application list":
		err = line.Application.List.run(ctx, stdout)
	case "application revoke <id>":
		err = line.Application.Revoke.run(ctx, stdout, log)
	case "verify":
		err = line.Verify.run(ctx, stdout)
	case "copy":
		err = line.Copy.run(ctx, stdout, stderr)
	case "version":
		_, err = fmt.Fprint(stdout, build())
	}
	if err != nil {
		if errors.Is(err, store.ErrNoDatabase) && command != "copy" {
			err = fmt.Errorf("%w (%s, --database-url)", err, variable("database-url"))
		}
		fmt.Fprintf(stderr, "agentevents: %v\n", err)
		return exitFailed
	}
	return 0
}

// parse parses the command line, and reads the variables of the flags that it lacks. It returns the name of the
// command, or "" after it has printed help.
func parse(line *commands, args []string, set vars, stdout, stderr io.Writer) (command string, err error) {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	line.Serve.env = set
	helpPrinted := false
	parser, err := kong.New(line, kong.Name("agentevents"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helpPrinted = true }), kong.Resolvers(set.resolver()),
		helpTexts, kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return "", err
	}
	line.known = []string{variable(operatorSecret), variable(encryptionKey)}
	for _, command := range parser.Model.Children {
		for _, flag := range command.Flags {
			line.known = append(line.known, variable(flag.Name))
		}
	}
	parsed, err := parser.Parse(args)
	if helpPrinted {
		return "", nil
	}
	if err != nil {
		return "", usageError(parser.Model.Node, err)
	}
	return parsed.Command(), nil
}

// usageError adds to an error of the command line which help explains it. The parser says of a flag before its command
// only that it is unknown.
func usageError(root *kong.Node, err error) error {
	at := root
	if failed, ok := errors.AsType[*kong.ParseError](err); ok && failed.Context.Selected() != nil {
		at = failed.Context.Selected()
	}
	if flag, unknown := strings.CutPrefix(err.Error(), "unknown flag --"); unknown {
		flag, _, _ = strings.Cut(flag, ",")
		if slices.ContainsFunc(at.Children, func(command *kong.Node) bool { return hasFlag(command, flag) }) {
			err = fmt.Errorf("--%s must stand after the command", flag)
		}
	}
	return fmt.Errorf("%w (see %s --help)", err, at.FullPath())
}

// hasFlag reports whether a command, or one of its commands, has a flag.
func hasFlag(command *kong.Node, name string) bool {
	return slices.ContainsFunc(command.Flags, func(flag *kong.Flag) bool { return flag.Name == name }) ||
		slices.ContainsFunc(command.Children, func(child *kong.Node) bool { return hasFlag(child, name) })
}
