package gen

import "time"

// Time is a time as the API says it: RFC 3339, in UTC, with milliseconds, also where these are none.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}
