package contract

import (
	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/gen/api"
)

// Load returns openapi.yaml, which is embedded in the program.
func Load() (*openapi3.T, error) {
	data, err := api.Document.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromData(data)
}

// BasePath is the path of the API, as in the servers of openapi.yaml.
const BasePath = "/api/ver1.0"
