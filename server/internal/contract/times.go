package contract

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
)

// rfc3339 matches a date-time of RFC 3339, section 5.6, in upper or lower case. The offset may lack its colon, as with
// strftime's %z.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:(\d\d)(?:\.\d+)?` +
	`(?:[Zz]|[+-](?:[01]\d|2[0-3]):?[0-5]\d)$`)

var errNotRFC3339 = errors.New("must be an RFC 3339 time")

// parseTime parses a time of a client. A leap second means the instant after it.
func parseTime(text string) (time.Time, error) {
	form := rfc3339.FindStringSubmatch(text)
	if form == nil {
		return time.Time{}, errNotRFC3339
	}
	text = withColon(strings.ToUpper(text))
	leap := form[1] == "60"
	if leap {
		text = text[:17] + "59" + text[19:] // the second before the leap second
	}
	t, err := time.Parse(time.RFC3339, text)
	if t = t.UTC(); leap {
		t = t.Truncate(time.Second).Add(time.Second)
	}
	if err != nil || leap && (t.Hour() != 0 || t.Minute() != 0) || t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, errNotRFC3339
	}
	return t, nil
}

// withColon adds the colon to an offset that lacks it.
func withColon(text string) string {
	if zone := len(text) - 5; text[zone] == '+' || text[zone] == '-' {
		return text[:zone+3] + ":" + text[zone+3:]
	}
	return text
}

// canonicalTime converts a time to the form that the generated binding parses. It returns any other text unchanged.
func canonicalTime(text string) string {
	t, err := parseTime(text)
	if err != nil {
		return text
	}
	return t.Format(time.RFC3339Nano)
}

// canonicalQuery applies canonicalTime to the times in a query. In a query, an unescaped plus sign means a space, so it
// restores the sign.
func canonicalQuery(c echo.Context, operation *openapi3.Operation) {
	for _, p := range operation.Parameters {
		if p.Value.In != openapi3.ParameterInQuery || p.Value.Schema.Value.Format != "date-time" {
			continue
		}
		values := c.QueryParams()[p.Value.Name]
		for i := range values {
			values[i] = canonicalTime(strings.ReplaceAll(values[i], " ", "+"))
		}
	}
}
