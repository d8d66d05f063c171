package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// tree is the source of the repository, with its guides.
type tree struct {
	root     string
	fset     *token.FileSet
	files    []*file
	markdown []string // paths of all guides
}

// file is a source file that is not generated. Its path is relative to the repository, with slashes.
type file struct {
	path   string
	text   []byte
	syntax *ast.File // nil for C
}

func (f *file) dir() string  { return path.Dir(f.path) }
func (f *file) isC() bool    { return f.syntax == nil }
func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }
func (f *file) lines() int   { return bytes.Count(f.text, []byte("\n")) }

// program reports whether a file is Go code outside tests.
func (f *file) program() bool {
	return !f.isC() && !f.isTest() && !strings.Contains(f.path, "/testdata/")
}

// readTree reads all source files below root that are not generated or built, and finds the guides.
func readTree(root string) (*tree, error) {
	t := &tree{root: root, fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || strings.HasSuffix(name, ".gen.go"):
			return nil
		}
		switch filepath.Ext(name) {
		case ".go", ".c", ".h":
			return t.read(root, name)
		case ".md":
			relative, err := filepath.Rel(root, name)
			t.markdown = append(t.markdown, filepath.ToSlash(relative))
			return err
		}
		return nil
	})
	if err == nil && len(t.files) == 0 {
		err = fmt.Errorf("no source in %s", root)
	}
	return t, err
}

func (t *tree) read(root, name string) error {
	relative, err := filepath.Rel(root, name)
	if err != nil {
		return err
	}
	f := &file{path: filepath.ToSlash(relative)}
	if f.text, err = os.ReadFile(name); err != nil {
		return err
	}
	if filepath.Ext(name) == ".go" {
		f.syntax, err = parser.ParseFile(t.fset, f.path, f.text, parser.ParseComments|parser.SkipObjectResolution)
	}
	t.files = append(t.files, f)
	return err
}

// at returns FILE:LINE of a place in a Go file.
func (t *tree) at(pos token.Pos) string {
	p := t.fset.Position(pos)
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// line returns the line of a place in its file.
func (t *tree) line(pos token.Pos) int { return t.fset.Position(pos).Line }
