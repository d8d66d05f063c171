// Program house prints the figures that keep this repository readable, each with its aim, and exits with 1 if one is
// missed. Arguments name the figures to print, by the first column; none names all.
//
//	go run ./.ci/house             the figures
//	go run ./.ci/house -v          also every place that counts, as FILE:LINE
//	go run ./.ci/house -v shadow   of one figure
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
)

// figure is one line of the report: a count over the repository, and how high it may be.
type figure struct {
	name, text string
	max        int
	count      func(*tree) (n int, places []string)
}

var figures = []figure{
	{"shadow", "package-level names that a local name shadows", 4, shadowed},
	{"arrows", "imports between packages that do not point down", 0, upward},
	{"lines", "lines over 120 columns, a tab counted as 4", 0, wideLines},
	{"functions", "functions over 45 lines, tests apart", 0, longFunctions},
	{"files", "files over 400 lines, tests apart", 0, longFiles},
	{"store", "Go files directly in store, tests apart", 40, filesIn("store")},
	{"server", "Go files directly in server, tests apart", 20, filesIn("server")},
	{"concepts", "concepts that a status change needs, as store/doc.go lists them", 28, concepts},
	{"harness", "lines of server/{bench,crash,demo,lab}, tests apart", 4800, linesIn(
		"server/bench", "server/crash", "server/demo", "server/lab")},
	{"paths", "paths that the guides in .github name and that are not there", 0, missingPaths},
	{"links", "links of the guides that lead to no file or heading", 0, brokenLinks},
	{"sentences", "sentences of the guides with more than 30 words", 0, longSentences},
	{"words", "words in the guides and openapi.yaml that stand for a term", 20, wordsOfDocuments},
	{"comments", "such words in comments and messages of the code", 60, wordsOfCode},
	{"c", "lines of C that the server links", 350, linesOfC},
}

func main() {
	verbose := flag.Bool("v", false, "list every place that counts")
	root := flag.String("C", ".", "the repository")
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
