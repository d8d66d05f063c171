// Package contract holds requests to openapi.yaml: it validates them, and says in words what is wrong with them.
//
//	document.go      openapi.yaml, and where the API is
//	validate.go      Validate: path, query and body of a request, against the schemas of its operation
//	parameters.go    path and query in the form that openapi.yaml has: unescaped, and without PHP's brackets
//	body.go          ReadBody and takeBody: one body within its limit; json.go parses it strictly
//	times.go         every form of RFC 3339 in one form
//	field_errors.go  which fields are wrong; messages.go says what they must be
//
// A request that Validate accepts binds without an error, and its handler gets the very value that was validated. No
// text of Go or of a schema reaches the client. The package imports server/internal/request and gen, not store.
package contract
