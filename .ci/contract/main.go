// Program contract compares openapi.yaml with the reference document in this directory. It fails on a breaking change,
// unless a rule of breaking.txt allows the change. A rule is a line with the id of a check of oasdiff and a regular
// expression for "METHOD PATH TEXT", below a comment with the reason. A rule that matches no change fails as well.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

type change struct{ ID, Text, Operation, Path string }

type rule struct {
	line    int
	id      string
	text    *regexp.Regexp
	matched bool
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	rules, err := readRules("breaking.txt")
	if err != nil {
		return err
	}
	changes, err := compare("openapi.yaml", "../../openapi.yaml")
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range changes {
		if !allowed(rules, c) {
			errs = append(errs, fmt.Errorf("%s %s: %s [%s]", c.Operation, c.Path, c.Text, c.ID))
		}
	}
	for _, r := range rules {
		if !r.matched {
			errs = append(errs, fmt.Errorf("breaking.txt:%d: the rule must match a change", r.line))
		}
	}
	fmt.Printf("%d breaking changes, %d rules\n", len(changes), len(rules))
	return errors.Join(errs...)
}

func allowed(rules []*rule, c change) (is bool) {
	for _, r := range rules {
		if r.id == c.ID && r.text.MatchString(c.Operation+" "+c.Path+" "+c.Text) {
			r.matched, is = true, true
		}
	}
	return is
}

// readRules parses the rules. It refuses a rule without a reason.
func readRules(name string) (rules []*rule, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	reason := false
	for i, line := range strings.Split(string(data), "\n") {
		id, text, _ := strings.Cut(line, " ")
		switch {
		case line == "":
			reason = false
		case strings.HasPrefix(line, "#"):
			reason = true
		case !reason || text == "":
			return nil, fmt.Errorf("%s:%d: a rule must be an id and a regular expression, below its reason", name, i+1)
		default:
			expression, err := regexp.Compile(text)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
			}
			rules = append(rules, &rule{line: i + 1, id: id, text: expression})
		}
	}
	return rules, nil
}

func compare(before, after string) (changes []change, err error) {
	cmd := exec.Command("go", "tool", "oasdiff", "breaking", before, after, "--format", "json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("oasdiff: %w: %s", err, &stderr)
	}
	if len(bytes.TrimSpace(out)) == 0 {
		return nil, nil
	}
	return changes, json.Unmarshal(out, &changes)
}
