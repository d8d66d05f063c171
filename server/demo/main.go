// Demo makes the example of the API manual happen for real. It starts the program with a store in a temporary
// directory and a receiver of its own, plays the story step by step by requests of the API, and looks at each
// step whether what should be seen is seen. If not, it says what differs and exits with 1.
//
//	go run ./server/demo -binary bin/agentevents
//
// With -serve it starts the program to be tried out, with a client and tokens, until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// patience is how long a step may take that normally takes milliseconds.
const patience = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, lab.IsTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "")
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and with it what stop would undo
	}
}

// run shows the story and leaves nothing behind, however it ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, colour bool) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("binary", "bin/agentevents", "the `program` that is shown")
	try := flags.Bool("serve", false, "serve, with what is needed to try it out, in place of the story")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *try {
		return serve(ctx, *binary, stdout, stderr)
	}
	dir, err := os.MkdirTemp("", "agentevents-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return show(ctx, *binary, dir, &printer{w: stdout, colour: colour})
}

// show runs receiver and server around the story.
func show(ctx context.Context, binary, dir string, out *printer) error {
	began := time.Now()
	s := &story{out: out, arrivals: make(chan *lab.Arrival, 100)}
	r, err := lab.NewReceiver(lab.NewRecord(nil), 0, s.receive)
	if err != nil {
		return err
	}
	defer r.Close()
	server, err := lab.Start(ctx, binary, "sqlite:"+filepath.Join(dir, "agentevents.db"))
	if err != nil {
		return err
	}
	if err = server.Ready(ctx); err == nil {
		s.server, s.receiver = server.URL, r.URL+script
		err = s.play(ctx)
	}
	if stopped := server.Stop(); err == nil {
		err = stopped
	}
	if err == nil {
		err = s.quiet()
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return server.Explain(err)
	}
	out.end("The server was stopped by SIGTERM and ended with exit code 0; the receiver got nothing else.\n"+
		"All this took %.1f s. The temporary files are removed.", time.Since(began).Seconds())
	return nil
}
