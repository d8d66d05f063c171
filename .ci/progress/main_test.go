package main

import (
	"strings"
	"testing"
)

// The report has each reason for which tests were skipped, with these tests, but not those of the other engine.
func TestReportNamesSkippedTests(t *testing.T) {
	const events = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: this test requires php\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: on SQLite alone: it is about a file\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC/1","Output":"    a_test.go:7: this test requires php\n"}
{"Action":"skip","Package":"p","Test":"TestC/1"}
{"Action":"output","Package":"p","Test":"TestD","Output":"    a_test.go:9: logged\n"}
{"Action":"pass","Package":"p","Test":"TestD"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	const want = "...\tp\nskipped\tp\tTestA, TestC/1: this test requires php\nok  \tp\t0.1s\n"
	var got strings.Builder
	if err := report(strings.NewReader(events), &got); err != nil || got.String() != want {
		t.Errorf("the report is\n%s\nwant\n%s\n%v", &got, want, err)
	}
}
