package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// colourful says whether a file wants colours: it is a terminal, and nobody has set NO_COLOR.
func colourful(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 &&
		os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

const (
	bold  = "1"
	faint = "2"
	green = "32"
)

// printer tells the story.
type printer struct {
	w      io.Writer
	colour bool
	steps  int
}

func (p *printer) paint(style, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// begin says what the story is played on.
func (p *printer) begin(api, receiver string) {
	fmt.Fprintf(p.w, "The server runs with an empty store in a temporary directory. For this demo it may send to loopback,\n"+
		"where a receiver waits at %s. In the commands:\n\n    API=%s\n", receiver, api)
}

// step announces the next step.
func (p *printer) step(text string) {
	p.steps++
	fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, fmt.Sprintf("%2d. %s", p.steps, text)))
}

// block prints lines as they are, indented.
func (p *printer) block(title, text string) {
	fmt.Fprintf(p.w, "    %s\n", title)
	p.indented("", text)
}

func (p *printer) indented(style, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(p.w, "      %s\n", p.paint(style, line))
	}
}

// saw ends a step.
func (p *printer) saw(format string, args ...any) {
	fmt.Fprintf(p.w, "    %s %s\n", p.paint(green, "ok:"), fmt.Sprintf(format, args...))
}

// end ends the story.
func (p *printer) end(format string, args ...any) {
	fmt.Fprintf(p.w, "\n%s\n", fmt.Sprintf(format, args...))
}

// command prints the curl command that makes a request.
func (p *printer) command(req *http.Request, api string) error {
	text, err := curl(req, api)
	if err == nil {
		p.indented(faint, text)
	}
	return err
}

// curl is the command that makes a request, with $API for what begins each URL.
func curl(req *http.Request, api string) (string, error) {
	text := fmt.Sprintf(`curl -X %s "$API%s"`, req.Method, strings.TrimPrefix(req.URL.String(), api))
	if req.GetBody == nil {
		return text, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s -H 'Content-Type: %s' \\\n  -d %s", text, req.Header.Get("Content-Type"), quote(string(content))), nil
}

// quote makes one word of a shell out of text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
