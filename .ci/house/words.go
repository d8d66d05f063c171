package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"strings"
)

// banned matches words that replace a term or an actor's name, also at the start of a sentence. It does not match
// identifiers.
var banned = regexp.MustCompile(`\b([Ww]hoever|[Ss]omebody|[Nn]obody|[Aa]new|[Oo]wed|[Aa]stray|` +
	`([Ii]s|[Aa]re|[Ww]as|[Ww]ere) told|[Ww]ho (may|has|is|asks|sends|makes|fails|gets))\b`)

// wordsOfDocuments lists banned words in the guides and in openapi.yaml.
func wordsOfDocuments(t *tree) (n int, places []string) {
	for _, d := range append(t.guides(), t.document("openapi.yaml")) {
		for i, line := range strings.Split(d.text, "\n") {
			for _, found := range banned.FindAllString(line, -1) {
				places = append(places, fmt.Sprintf("%s:%d: %q", d.path, i+1, found))
			}
		}
	}
	return len(places), places
}

// wordsOfCode lists banned words in comments, and in strings such as errors and help texts.
func wordsOfCode(t *tree) (n int, places []string) {
	for _, f := range t.files {
		if f.isC() || f.path == ".ci/house/words.go" {
			continue
		}
		note := func(pos token.Pos, text string) {
			for _, at := range banned.FindAllStringIndex(text, -1) {
				line := t.line(pos) + strings.Count(text[:at[0]], "\n")
				places = append(places, fmt.Sprintf("%s:%d: %q", f.path, line, text[at[0]:at[1]]))
			}
		}
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				note(c.Pos(), c.Text)
			}
		}
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			if s, ok := node.(*ast.BasicLit); ok && s.Kind == token.STRING {
				note(s.Pos(), s.Value)
			}
			return true
		})
	}
	return len(places), places
}

// longestSentence is the maximum number of words in a sentence of a guide.
const longestSentence = 30

var (
	sentenceEnd = regexp.MustCompile(`[.!?:]["')*_]*(\s+|$)`)
	// Inline code counts as one word, the target of a link as none.
	inlineCode = regexp.MustCompile("`[^`]+`")
	linkTarget = regexp.MustCompile(`\]\([^)]*\)`)
)

// longSentences lists the sentences of the guides with too many words.
func longSentences(t *tree) (n int, places []string) {
	for _, d := range t.guides() {
		for _, p := range d.paragraphs() {
			text := linkTarget.ReplaceAllString(inlineCode.ReplaceAllString(p.text, "code"), "]")
			for _, sentence := range sentenceEnd.Split(text, -1) {
				if words := len(strings.Fields(sentence)); words > longestSentence {
					places = append(places, fmt.Sprintf("%s:%d: %d words: %s", d.path, p.line, words, sentence))
				}
			}
		}
	}
	return len(places), places
}
