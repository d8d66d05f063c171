package contract

import (
	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/gen/api"
)

// Load returns openapi.yaml.
func Load() (*openapi3.T, error) {
	data, err := api.Document.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromData(data)
}

// BasePath is where the API is, as openapi.yaml's servers have it.
const BasePath = "/api/ver1.0"
