// Package api holds what a server of the API is made of, generated from openapi.yaml: the Echo routes, the strict
// server interface that package server implements, and the document itself.
package api
