package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// guideRows returns the rows of tables in README.md, beginning with the columns that a pattern matches.
func guideRows(t *testing.T, columns string) []string {
	t.Helper()
	guide, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^"+columns).FindAllString(string(guide), -1)
	slices.Sort(rows)
	return rows
}

// compareRows reports rows that the guide lacks, or has in another form.
func compareRows(t *testing.T, rows, want []string) {
	t.Helper()
	if slices.Sort(want); !slices.Equal(rows, want) {
		t.Errorf("README.md has\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}

// The guide has each setting with its flag and its default.
func TestGuideHasEachSetting(t *testing.T) {
	parser, err := kong.New(new(commands), helpTexts)
	if err != nil {
		t.Fatal(err)
	}
	row := func(name, flag, value string) string {
		return "| `" + variable(name) + "` | " + flag + " | " + value + " |"
	}
	want := []string{row(operatorSecret, "none", "none"), row(encryptionKey, "none", "none")}
	for _, command := range parser.Model.Children {
		for _, flag := range command.Flags {
			value := "none"
			if flag.Default != "" {
				value = "`" + flag.Default + "`"
			}
			if command.Name == "serve" {
				want = append(want, row(flag.Name, "`--"+flag.Name+"`", value))
			}
		}
	}
	compareRows(t, guideRows(t, "\\| `AGENTEVENTS_\\w+` \\|[^|]*\\|[^|]*\\|"), want)
}

// The program logs each line that the guide has, at that level.
func TestGuideHasLogLinesOfTheProgram(t *testing.T) {
	source := strings.Split(sourceOf(t, ".", "../store", "../webhook"), "\n")
	rows := guideRows(t, "\\| `[^`]+` \\| `(?:INFO|WARN|ERROR)` \\|")
	if len(rows) == 0 {
		t.Fatal("README.md has no log lines")
	}
	for _, row := range rows {
		cells := strings.Split(row, "`")
		line, level := `"`+cells[1], cells[3][:1]+strings.ToLower(cells[3][1:])
		if !slices.ContainsFunc(source, func(text string) bool {
			before, _, found := strings.Cut(text, line)
			return found && (strings.Contains(before, "."+level) || strings.Contains(before, ".Level"+level))
		}) {
			t.Errorf("the program logs no line %s", row)
		}
	}
}

// The guide has each line that needs attention: those of level WARN and ERROR.
func TestGuideHasEachWarning(t *testing.T) {
	rows := guideRows(t, "\\| `[^`]+` \\| `(?:WARN|ERROR)` \\|")
	logged := regexp.MustCompile(
		`(?:\.(?:Warn|Error(?:Context)?)\((?:[a-z][\w.()]*, )?|\.Level(?:Warn|Error), )"([^"]+)"`)
	found := logged.FindAllStringSubmatch(sourceOf(t, ".", "../store", "../webhook"), -1)
	if len(found) < len(rows) {
		t.Errorf("found %d lines in the source, for %d rows", len(found), len(rows))
	}
	for _, line := range found {
		if !slices.ContainsFunc(rows, func(row string) bool {
			return strings.HasPrefix(line[1], strings.Split(row, "`")[1])
		}) {
			t.Errorf("README.md has no row for the line %q", line[1])
		}
	}
}

// The server answers /readyz with each reason that the guide has.
func TestGuideHasReasonsOfReadiness(t *testing.T) {
	source := sourceOf(t, "internal/api")
	rows := guideRows(t, "\\| `(?:the|SQLite) [^`]+` \\|")
	if len(rows) == 0 {
		t.Fatal("README.md has no reasons")
	}
	for _, row := range rows {
		if !strings.Contains(source, `"`+strings.Split(row, "`")[1]+`"`) {
			t.Errorf("the server answers no reason %s", row)
		}
	}
}

// sourceOf returns the text of Go files, and of all in directories and below, tests excepted.
func sourceOf(t *testing.T, dirs ...string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
