package contract

import (
	"testing"
)

// Parameters that all operations of a path have are in the path, integers or texts. Those of one operation are in the query.
func TestWhereParametersAre(t *testing.T) {
	document, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range document.Paths.Map() {
		for _, p := range item.Parameters {
			if s := p.Value.Schema.Value; p.Value.In != "path" || s.Format == "int32" || !s.Type.Is("integer") && !s.Type.Is("string") {
				t.Errorf("%s: %s is not checked as it is meant", path, p.Value.Name)
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
