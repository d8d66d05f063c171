package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// document is a guide, openapi.yaml or store/doc.go. Its path is relative to the repository, with slashes.
type document struct{ path, text string }

// paragraph is a text between blank lines, an item of a list, or a cell of a table.
type paragraph struct {
	line int // line in the document, from 1
	text string
}

// guides returns the documents in Markdown.
func (t *tree) guides() (found []document) {
	for _, name := range t.markdown {
		found = append(found, t.document(name))
	}
	return found
}

// document reads a document. If that fails, the program ends: an empty document would pass.
func (t *tree) document(name string) document {
	text, err := os.ReadFile(filepath.Join(t.root, name))
	if err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
	return document{path: name, text: string(text)}
}

// prose returns the lines of a document. Lines of code blocks are empty.
func (d document) prose() []string {
	lines, inCode := strings.Split(d.text, "\n"), false
	for i, line := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence || inCode {
			lines[i] = ""
		}
		inCode = inCode != fence
	}
	return lines
}

// beginsItem matches the beginning of a paragraph that needs no blank line before it.
var beginsItem = regexp.MustCompile(`^\s*([*-]|\d+\.|#+|>|\|) ?`)

func (d document) paragraphs() (all []paragraph) {
	last := ""
	for i, line := range d.prose() {
		item := beginsItem.FindString(line)
		text := strings.TrimSpace(line[len(item):])
		switch {
		case strings.HasSuffix(item, "| ") || strings.HasSuffix(item, "|"):
			for cell := range strings.SplitSeq(text, "|") {
				all = append(all, paragraph{i + 1, strings.TrimSpace(cell)})
			}
		case item != "" || last == "" || len(all) == 0:
			all = append(all, paragraph{i + 1, text})
		default:
			all[len(all)-1].text += " " + text
		}
		last = text
	}
	return all
}

// inBackquotes matches a possible path. A capital stands for a name that the reader chooses.
var inBackquotes = regexp.MustCompile("`([a-z0-9_./]+/[a-z0-9_./]*|[a-z0-9_]+\\.(?:go|md|yaml))`")

// missingPaths lists the paths in the guides for contributors that do not exist.
func missingPaths(t *tree) (n int, places []string) {
	for _, name := range []string{".github/CONTRIBUTING.md", ".github/SECURITY.md"} {
		for i, line := range t.document(name).prose() {
			for _, found := range inBackquotes.FindAllStringSubmatch(line, -1) {
				if !t.has(found[1]) {
					places = append(places, fmt.Sprintf("%s:%d: %s does not exist", name, i+1, found[1]))
				}
			}
		}
	}
	return len(places), places
}

// has reports whether a path exists. A file name without a directory may be anywhere.
func (t *tree) has(name string) bool {
	if !strings.Contains(name, "/") {
		for _, f := range t.files {
			if path.Base(f.path) == name {
				return true
			}
		}
	}
	_, err := os.Stat(filepath.Join(t.root, name))
	return err == nil
}

// link matches the target of a link or of a picture.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:href|src)="([^"]+)"`)

// brokenLinks lists the links in the guides to files and headings that do not exist. It does not check links to other
// hosts.
func brokenLinks(t *tree) (n int, places []string) {
	for _, d := range t.guides() {
		for i, line := range d.prose() {
			for _, found := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, ""), -1) {
				to := found[1] + found[2]
				if !strings.Contains(to, ":") && !t.reaches(d, to) {
					places = append(places, fmt.Sprintf("%s:%d: %s does not exist", d.path, i+1, to))
				}
			}
		}
	}
	return len(places), places
}

// reaches reports whether the target of a document's link exists.
func (t *tree) reaches(from document, to string) bool {
	target, anchor, hasAnchor := strings.Cut(to, "#")
	if target != "" {
		name := path.Join(path.Dir(from.path), target)
		if _, err := os.Stat(filepath.Join(t.root, name)); err != nil {
			return false
		}
		if !hasAnchor {
			return true
		}
		from = t.document(name)
	}
	for _, line := range from.prose() {
		if strings.HasPrefix(line, "#") && anchorOf(line) == anchor {
			return true
		}
	}
	return false
}

// notInAnchor matches the characters that GitHub omits from the anchor of a heading.
var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

func anchorOf(heading string) string {
	text := strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(text, ""), " ", "-")
}
