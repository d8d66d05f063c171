package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/agentevents/agentevents/server/internal/request"
)

// parseJSON accepts exactly one JSON value, in UTF-8. It refuses an object that has a member twice: Go would silently
// use the last one.
func parseJSON(text []byte) (any, error) {
	switch {
	case bytes.HasPrefix(text, []byte("\ufeff")):
		return nil, request.Refuse(http.StatusBadRequest, "the body must not begin with a byte order mark")
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return nil, request.Refuse(http.StatusBadRequest, "the body must be UTF-8, not UTF-16")
	case !utf8.Valid(text):
		return nil, request.Refuse(http.StatusBadRequest, "the body must be valid UTF-8")
	case !json.Valid(text):
		err := json.Unmarshal(text, new(json.RawMessage))
		message := "the body must be valid JSON; " + syntaxErrorPosition(text, err)
		return nil, request.Refuse(http.StatusBadRequest, message)
	}
	var value any
	_ = newDecoder(text).Decode(&value) // cannot fail: the text is valid
	if countMembers(value) == countNames(text) {
		return value, nil
	}
	if name := repeatedName(newDecoder(text)); name != "" {
		return nil, request.Invalid(fieldError(name, "must be given only once"))
	}
	return value, nil
}

// newDecoder returns a decoder that keeps numbers as text: a float64 cannot represent every integer.
func newDecoder(text []byte) *json.Decoder {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d
}

// countMembers counts the members of all objects in a value.
func countMembers(value any) (n int) {
	switch v := value.(type) {
	case map[string]any:
		n = len(v)
		for _, member := range v {
			n += countMembers(member)
		}
	case []any:
		for _, item := range v {
			n += countMembers(item)
		}
	}
	return n
}

// countNames counts the names of members in a JSON text. A colon follows each name, and occurs elsewhere only in
// strings. If there are more names than members, an object has a member twice. Counting is cheaper than searching.
func countNames(text []byte) (n int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\':
			i++ // the escaped character is part of the string
		case c == ':' && !quoted:
			n++
		}
	}
	return n
}

// syntaxErrorPosition describes the position of the first syntax error in a JSON text.
func syntaxErrorPosition(text []byte, err error) string {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok || syntax.Error() == "unexpected end of JSON input" {
		return "it ends too early"
	}
	valid := text[:max(syntax.Offset-1, 0)]
	line := bytes.Count(valid, []byte("\n")) + 1
	column := utf8.RuneCount(valid[bytes.LastIndexByte(valid, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d is not", line, column)
}

// repeatedName returns the name of a member that an object in a valid JSON text has twice, or "".
func repeatedName(d *json.Decoder) (name string) {
	token, _ := d.Token()
	if token != json.Delim('[') && token != json.Delim('{') {
		return ""
	}
	seen := map[json.Token]bool{}
	for name == "" && d.More() {
		if token == json.Delim('{') {
			key, _ := d.Token()
			if seen[key] {
				return fmt.Sprint(key)
			}
			seen[key] = true
		}
		name = repeatedName(d)
	}
	_, _ = d.Token() // the closing bracket
	return name
}
