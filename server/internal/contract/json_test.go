package contract

import (
	"errors"
	"testing"

	"github.com/agentevents/agentevents/server/internal/request"
)

func TestRepeatedMemberIsNamed(t *testing.T) {
	for body, name := range map[string]string{
		`{"a":1,"a":1}`: "a", `[{"a":1},{"a":1,"b":{"c":[],"c":{}}}]`: "c", `{"a":{"b":1},"a":2}`: "a",
		`{"a":1,"\u0061":2}`: "a",
		`{"a":1,"A":2}`:      "", `[{"a":{"a":[]}},{"a":1e999},"a","a",null,true]`: "",
		`{"a":[1,2,{"b":{}}],"b":{}}`: "",
		`{":\"{\\":":","b":"\\"}`:     "", `{"\\\"":":","\u005c\u0022":1}`: `\"`, "{\"a\" :\n1,\t\"a\"\r: 1}": "a",
	} {
		_, err := parseJSON([]byte(body))
		refusal, refused := errors.AsType[*request.Refusal](err)
		if (name == "") != (err == nil) || refused && refusal.Body.Errors[0].Field != name {
			t.Errorf("%s: %v, want %q", body, err, name)
		}
	}
}
