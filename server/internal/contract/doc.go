// Package contract holds requests to openapi.yaml: it validates them, and says in words what is wrong with them.
//
//	document.go      openapi.yaml, and where the API is
//	validate.go      Validate: path, query, headers and body of a request, against the schemas of its operation
//	parameters.go    path and query in the form that openapi.yaml has: unescaped, and without PHP's brackets
//	body.go          ReadBody and takeBody: one body within its limit; json.go parses it strictly
//	bounds.go        refuses a body of too many values while it arrives
//	times.go         every form of RFC 3339 in one form
//	field_errors.go  which fields are wrong; messages.go says what they must be
//
// A request that Validate accepts binds without an error, and its handler gets the very value that was validated. The
// messages are this package's own. Of a schema they have the names of properties, the values of enums, and bounds; a
// pattern is described in words. A schema must say additionalProperties: false, or unknown fields pass.
//
// The contract tests, which hold the whole server to openapi.yaml, are server/internal/api/contract_*_test.go;
// contract_test.go says how to add a scenario. The package imports server/internal/request and gen, not store.
package contract
