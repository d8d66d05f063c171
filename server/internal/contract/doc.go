// Package contract validates requests against openapi.yaml, and describes their errors.
//
//	document.go      openapi.yaml, and the base path of the API
//	validate.go      Validate: path, query, headers and body of a request, against the schemas of its operation
//	parameters.go    path and query in the form of openapi.yaml: unescaped, and without PHP's brackets
//	body.go          ReadBody and takeBody: one body within its limit; json.go parses it strictly
//	bounds.go        refuses a body of too many values while it arrives
//	times.go         converts every form of RFC 3339 to one
//	field_errors.go  lists the invalid fields; messages.go has the messages
//
// The generated binding accepts every request that Validate accepts, and the handler gets the validated value itself.
// All messages are this package's own. They contain names of properties, values of enums, and bounds of a schema; they
// describe a pattern in words. A schema must say additionalProperties: false, otherwise unknown fields pass.
//
// The contract tests check the whole server against openapi.yaml: server/internal/api/contract_*_test.go. The head of
// contract_test.go explains how to add a scenario. The package imports server/internal/request and gen, not store.
package contract
