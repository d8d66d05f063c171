// Program house checks the house rules: the style rules of this repository for names, imports, sizes of lines,
// functions and files, links, and words. It prints a figure for each rule, with its limit. It exits with 1 if a figure
// exceeds its limit. Arguments select figures by the first column; without arguments, it prints all.
//
//	go run ./.ci/house             all figures
//	go run ./.ci/house -v          all figures, and each counted place as FILE:LINE
//	go run ./.ci/house -v shadow   one figure
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
)

// figure is one line of the report: a count over the repository, and its limit.
type figure struct {
	name, text string
	max        int
	count      func(*tree) (n int, places []string)
}

var figures = []figure{
	{"shadow", "package-level names that a local name shadows", 4, shadowed},
	{"arrows", "imports between packages that do not point down", 0, upward},
	{"lines", "lines of more than 120 columns, with tabs of 4", 0, wideLines},
	{"functions", "functions of more than 45 lines, except tests", 0, longFunctions},
	{"files", "files of more than 400 lines, except tests", 0, longFiles},
	{"store", "Go files directly in store, except tests", 41, filesIn("store")},
	{"server", "Go files directly in server, except tests", 20, filesIn("server")},
	{"concepts", "concepts of a status change that store/doc.go lists", 29, concepts},
	{"harness", "lines of server/{bench,crash,demo,lab}, except tests", 5410, linesIn(
		"server/bench", "server/crash", "server/demo", "server/lab")},
	{"paths", "paths in the guides of .github that do not exist", 0, missingPaths},
	{"links", "links of the guides to files or headings that do not exist", 0, brokenLinks},
	{"sentences", "sentences of the guides with more than 30 words", 0, longSentences},
	{"words", "banned words in the guides and openapi.yaml", 0, wordsOfDocuments},
	{"comments", "banned words in comments and messages of the code", 4, wordsOfCode},
	{"c", "lines of C that the server links", 350, linesOfC},
}

func main() {
	verbose := flag.Bool("v", false, "list every counted place")
	root := flag.String("C", ".", "`directory` of the repository")
	flag.Parse()
	t, err := readTree(*root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
	missed := false
	for _, f := range figures {
		if flag.NArg() == 0 || slices.Contains(flag.Args(), f.name) {
			missed = f.print(t, *verbose) || missed
		}
	}
	if missed {
		os.Exit(1)
	}
}

func (f figure) print(t *tree, verbose bool) (missed bool) {
	n, places := f.count(t)
	missed = n > f.max
	verdict := "ok"
	if missed {
		verdict = "MISSED"
	}
	fmt.Printf("%-10s %6d   at most %4d   %-7s %s\n", f.name, n, f.max, verdict, f.text)
	if verbose {
		for _, place := range places {
			fmt.Println("\t" + place)
		}
	}
	return missed
}
