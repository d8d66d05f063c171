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
	"path/filepath"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

func main() { lab.Main("demo", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
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
	return show(ctx, *binary, stdout)
}

// show runs receiver and server around the story, and leaves nothing behind, however it ends.
func show(ctx context.Context, binary string, stdout io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "agentevents-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	s := &story{ctx: ctx, out: stdout, record: lab.NewRecord(nil), tokens: map[string]string{}}
	r, err := lab.NewReceiver(s.record, 0, nil)
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
		err = s.play()
	}
	err = errors.Join(err, server.Stop())
	if more := s.record.Arrivals()[s.webhooks:]; err == nil && len(more) > 0 {
		err = fmt.Errorf("the receiver got one more request: %v", &more[0])
	}
	if err != nil {
		return server.Explain(err)
	}
	fmt.Fprintf(stdout, "\nThe server was stopped by SIGTERM and ended with exit code 0; the receiver got nothing "+
		"else.\nAll this took %.1f s. The temporary files are removed.\n", time.Since(began).Seconds())
	return nil
}
