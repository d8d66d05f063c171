package contract

import (
	"net/url"
	"testing"
)

func TestPHPArraysDoNotChangeOtherNames(t *testing.T) {
	query := url.Values{
		"a[1]": {"3"}, "a[0]": {"1", "2"}, "a": {"0"}, "b[c]": {"4"}, "d]": {"5"}, "e[": {"6"}, "[0]": {"7"},
	}
	want := "%5B0%5D=7&a=0&a=1&a=2&a=3&b%5Bc%5D=4&d%5D=5&e%5B=6"
	if got := phpArrays(query).Encode(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
