package main

import (
	"regexp"
	"strings"
)

// remark matches a remark in parentheses after a concept.
var remark = regexp.MustCompile(`\([^)]*\)`)

// concepts counts the concepts that store/doc.go lists in its section about them, as in "Of the API: client, agent. Of
// the outbox: lane."
func concepts(t *tree) (n int, places []string) {
	_, section, _ := strings.Cut(t.document("store/doc.go").text, "# The concepts of a status change")
	section, _, _ = strings.Cut(section, "\n// #")
	section = remark.ReplaceAllString(strings.ReplaceAll(section, "//", " "), "")
	for sentence := range strings.SplitSeq(strings.Join(strings.Fields(section), " "), ".") {
		if _, list, found := strings.Cut(sentence, ": "); found {
			places = append(places, strings.Split(list, ", ")...)
		}
	}
	return len(places), places
}
