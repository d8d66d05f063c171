// Package api holds what a server of the API is made of, generated from openapi.yaml: the Echo routes, the strict
// server interface that package server/internal/api implements, and the document itself.
package api

import "embed"

// Document has the file openapi.yaml as it was written. What GetSpec returns has lost its order, and its operationIds
// are changed.
//
//go:embed openapi.yaml
var Document embed.FS
