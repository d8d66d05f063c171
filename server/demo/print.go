package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/agentevents/agentevents/server/lab"
)

const (
	bold  = "1"
	faint = "2"
	green = "32"
)

// printer prints the story.
type printer struct {
	w      io.Writer
	colour bool
	steps  int
	names  []string // of tokens, each behind its token
}

func (p *printer) paint(style, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// begin says what the story is played on.
func (p *printer) begin(server, receiver string) {
	fmt.Fprintf(p.w, "The server runs with an empty store in a temporary directory. For this demo it may send to\n"+
		"loopback, where a receiver waits at %s. In the commands:\n\n    SERVER=%s\n    API=$SERVER%s\n",
		receiver, server, lab.APIPath)
}

// name gives a token a name, which stands for it in commands.
func (p *printer) name(token, name string) { p.names = append(p.names, token, "$"+name) }

// step announces a step.
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
func (p *printer) command(req *http.Request, server string) error {
	text, err := curl(req, server)
	if err == nil {
		p.indented(faint, strings.NewReplacer(p.names...).Replace(text))
	}
	return err
}

// curl is the command that makes a request, with $SERVER or $API for what begins its URL.
func curl(req *http.Request, server string) (string, error) {
	url := "$SERVER" + strings.TrimPrefix(req.URL.String(), server)
	if path, ok := strings.CutPrefix(url, "$SERVER"+lab.APIPath); ok {
		url = "$API" + path
	}
	text := "curl -X " + req.Method + ` "` + url + `"`
	if authorization := req.Header.Get("Authorization"); authorization != "" {
		text += fmt.Sprintf(" -H \"Authorization: %s\"", authorization)
	}
	if req.GetBody == nil {
		return text, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(body)
	quoted := "'" + strings.ReplaceAll(string(content), "'", `'\''`) + "'" // one word of a shell
	return fmt.Sprintf("%s -H 'Content-Type: %s' \\\n  -d %s", text, req.Header.Get("Content-Type"), quoted), err
}
