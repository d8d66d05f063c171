package api

import (
	"strings"

	"github.com/agentevents/agentevents/gen"
)

// maxPageBytes is the size of a page of deliveries, in bytes of JSON, beyond which the page has no further entries.
const maxPageBytes = 1 << 20

// fitting returns how many entries from the beginning of a list have a page of maxPageBytes, at least one.
func fitting[T any](list []T, size func(T) int) int {
	total := 0
	for i, entry := range list {
		if total += size(entry); total > maxPageBytes {
			return max(i, 1)
		}
	}
	return max(len(list), 1)
}

// deliverySize returns at least the size of a delivery in a list. The texts of receivers and clients make the
// difference; the rest is less than deliveryRest.
func deliverySize(d gen.Delivery) int {
	n := deliveryRest + jsonSize(d.URL)
	if a := d.LastAttempt; a != nil {
		n += jsonSize(a.URL) + jsonSize(a.Answer) + jsonSize(a.Error)
	}
	return n
}

const deliveryRest = 1000

// jsonSize returns at least the size of a text in JSON without its quotation marks.
func jsonSize(s string) int {
	n := len(s)
	for _, escaped := range []string{"&", "<", ">"} {
		n += 5 * strings.Count(s, escaped)
	}
	for _, escaped := range []string{"\u2028", "\u2029"} {
		n += 3 * strings.Count(s, escaped)
	}
	for _, escaped := range []string{`"`, `\`, "\n", "\r", "\t"} {
		n += strings.Count(s, escaped)
	}
	return n
}
