package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
)

// scope has the package-level names of one package, and the local names that shadow them.
type scope struct {
	tree     *tree
	declared map[string]token.Pos
	shadows  map[string][]token.Pos
}

// shadowed counts the package-level names that a local name shadows: a variable, constant, type, parameter, result or
// receiver. A reader of such a function could confuse the two.
func shadowed(t *tree) (n int, places []string) {
	packages := map[string][]*file{}
	for _, f := range t.files {
		if f.program() {
			packages[f.dir()] = append(packages[f.dir()], f)
		}
	}
	for _, files := range packages {
		s := &scope{t, map[string]token.Pos{}, map[string][]token.Pos{}}
		for _, f := range files {
			s.declare(f.syntax)
		}
		for _, f := range files {
			ast.Inspect(f.syntax, s.visit)
		}
		n += len(s.shadows)
		places = append(places, s.places()...)
	}
	slices.Sort(places)
	return n, places
}

func (s *scope) places() (places []string) {
	for name, at := range s.shadows {
		for _, pos := range at {
			places = append(places, fmt.Sprintf("%s: %s shadows %s", s.tree.at(pos), name, s.tree.at(s.declared[name])))
		}
	}
	return places
}

// declare records the package-level names of a file.
func (s *scope) declare(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name != "init" {
				s.declared[d.Name.Name] = d.Name.Pos()
			}
		case *ast.GenDecl:
			for _, name := range namesOf(d) {
				s.declared[name.Name] = name.Pos()
			}
		}
	}
	delete(s.declared, "_")
}

// namesOf returns the names that a declaration declares.
func namesOf(d *ast.GenDecl) (names []*ast.Ident) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			names = append(names, spec.Names...)
		case *ast.TypeSpec:
			names = append(names, spec.Name)
		}
	}
	return names
}

// visit records the local names that a node declares.
func (s *scope) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		s.fields(n.Recv)
		s.signature(n.Type)
	case *ast.FuncLit:
		s.signature(n.Type)
	case *ast.DeclStmt:
		if d, ok := n.Decl.(*ast.GenDecl); ok {
			s.local(namesOf(d)...)
		}
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE {
			s.expressions(n.Lhs...)
		}
	case *ast.RangeStmt:
		if n.Tok == token.DEFINE {
			s.expressions(n.Key, n.Value)
		}
	}
	return true
}

func (s *scope) signature(f *ast.FuncType) {
	s.fields(f.TypeParams)
	s.fields(f.Params)
	s.fields(f.Results)
}

func (s *scope) fields(list *ast.FieldList) {
	if list == nil {
		return
	}
	for _, field := range list.List {
		s.local(field.Names...)
	}
}

func (s *scope) expressions(all ...ast.Expr) {
	for _, e := range all {
		if name, ok := e.(*ast.Ident); ok {
			s.local(name)
		}
	}
}

func (s *scope) local(names ...*ast.Ident) {
	for _, name := range names {
		if _, ok := s.declared[name.Name]; ok {
			s.shadows[name.Name] = append(s.shadows[name.Name], name.Pos())
		}
	}
}
