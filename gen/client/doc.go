// Package client is the Go client of the API, generated from openapi.yaml. NewClientWithResponses takes the address
// of a server with its base path, for example http://127.0.0.1:8080/api/ver1.0.
package client
