package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"slices"
	"unicode/utf8"
)

const (
	maxColumns       = 120
	columnsOfTab     = 4
	maxFunctionLines = 45
	maxFileLines     = 400
)

func wideLines(t *tree) (n int, places []string) {
	for _, f := range t.files {
		for i, line := range bytes.Split(f.text, []byte("\n")) {
			columns := utf8.RuneCount(line) + (columnsOfTab-1)*bytes.Count(line, []byte("\t"))
			if columns > maxColumns && !f.isC() {
				places = append(places, fmt.Sprintf("%s:%d: %d columns", f.path, i+1, columns))
			}
		}
	}
	return len(places), places
}

func longFunctions(t *tree) (n int, places []string) {
	for _, f := range t.files {
		if !f.program() {
			continue
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				if lines := t.line(fn.End()) - t.line(fn.Pos()) + 1; lines > maxFunctionLines {
					places = append(places, fmt.Sprintf("%s: %s has %d lines", t.at(fn.Pos()), fn.Name.Name, lines))
				}
			}
		}
	}
	return len(places), places
}

func longFiles(t *tree) (n int, places []string) {
	for _, f := range t.files {
		if f.program() && f.lines() > maxFileLines {
			places = append(places, fmt.Sprintf("%s: %d lines", f.path, f.lines()))
		}
	}
	return len(places), places
}

// filesIn counts the Go files of one package.
func filesIn(dir string) func(*tree) (int, []string) {
	return func(t *tree) (n int, places []string) {
		for _, f := range t.files {
			if f.program() && f.dir() == dir {
				places = append(places, f.path)
			}
		}
		return len(places), places
	}
}

// linesIn counts the lines of Go code in packages.
func linesIn(dirs ...string) func(*tree) (int, []string) {
	return func(t *tree) (n int, places []string) {
		for _, f := range t.files {
			if f.program() && slices.Contains(dirs, f.dir()) {
				n += f.lines()
				places = append(places, fmt.Sprintf("%s: %d lines", f.path, f.lines()))
			}
		}
		return n, places
	}
}

// faultsForTests is a package with C code that only tests link.
const faultsForTests = "store/internal/diskfault"

func linesOfC(t *tree) (n int, places []string) {
	for _, f := range t.files {
		if f.isC() && f.dir() != faultsForTests {
			n += f.lines()
			places = append(places, fmt.Sprintf("%s: %d lines", f.path, f.lines()))
		}
	}
	return n, places
}
