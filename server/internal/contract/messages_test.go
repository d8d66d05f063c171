package contract

import (
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// A rule without a message would be described by its regular expression, or not at all.
func TestEveryRuleHasAMessage(t *testing.T) {
	document, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			for _, p := range append(item.Parameters, operation.Parameters...) {
				checkMessages(t, operation.OperationID, p.Value.Schema.Value)
			}
			if operation.RequestBody != nil && operation.OperationID != "requestToken" {
				checkMessages(t, operation.OperationID, bodySchema(operation))
			}
		}
	}
}

func checkMessages(t *testing.T, at string, s *openapi3.Schema) {
	t.Helper()
	if s.Pattern != "" && strings.HasPrefix(patternMessage(s.Pattern), "must match") {
		t.Errorf("%s: no message for the pattern %s", at, s.Pattern)
	}
	if s.Type.Is("string") && s.Format != "" && formatMessage(s.Format) == "must be a string" {
		t.Errorf("%s: no message for the format %s", at, s.Format)
	}
	if s.Type.Is("string") && s.MinLength > 0 && s.MaxLength == nil {
		t.Errorf("%s: no message for a string of any length", at)
	}
	if s.MinItems > 0 || s.UniqueItems || s.MultipleOf != nil || s.OneOf != nil || s.AnyOf != nil || s.Not != nil ||
		s.Type.Is("number") {
		t.Errorf("%s: no message for a rule of %s", at, s.Description)
	}
	for _, part := range s.AllOf {
		checkMessages(t, at, part.Value)
	}
	for name, property := range s.Properties {
		checkMessages(t, at+" "+name, property.Value)
	}
	if s.Items != nil {
		checkMessages(t, at, s.Items.Value)
	}
}
