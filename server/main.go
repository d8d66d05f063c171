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
		fmt.Fprintf(stderr, "agentevents: %v (see agentevents --help)\n", err)
		return exitUsage
	}
	switch command {
	case "serve":
		err = serve(ctx, line.Serve, set.unknown(line.known), stdout, stderr)
	case "backup":
		err = line.Backup.run(ctx, stdout)
	case "new-epoch":
		err = line.NewEpoch.run(ctx, stdout)
	case "application create":
		err = line.Application.Create.run(ctx, stdout)
	case "application list":
		err = line.Application.List.run(ctx, stdout)
	case "application revoke <id>":
		err = line.Application.Revoke.run(ctx, stdout)
	case "verify":
		err = line.Verify.run(ctx, stdout)
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
		return "", err
	}
	return parsed.Command(), nil
}
