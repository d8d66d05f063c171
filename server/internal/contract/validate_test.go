package contract

import (
	"testing"
)

// Validate relies on this: parameters of a path item are integers or strings in the path, and parameters of an
// operation are in the query.
func TestParametersAreWhereValidateExpectsThem(t *testing.T) {
	document, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range document.Paths.Map() {
		for _, p := range item.Parameters {
			s := p.Value.Schema.Value
			if p.Value.In != "path" || s.Format == "int32" || !s.Type.Is("integer") && !s.Type.Is("string") {
				t.Errorf("%s: %s is not an integer or a string in the path", path, p.Value.Name)
			}
		}
		for _, operation := range item.Operations() {
			for _, p := range operation.Parameters {
				if p.Value.In != "query" && p.Value.Name != "Idempotency-Key" {
					t.Errorf("%s: %s is not in the query", operation.OperationID, p.Value.Name)
				}
			}
		}
	}
}
