package gen

import "time"

// Time is a time that JSON has as the API writes it: RFC 3339, in UTC, always with three digits of milliseconds.
type Time struct{ time.Time }

const timeFormat = `"2006-01-02T15:04:05.000Z"`

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(make([]byte, 0, len(timeFormat)), timeFormat), nil
}
