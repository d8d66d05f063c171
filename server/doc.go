// The program agentevents: HTTP in, configuration, and what wires the other packages together.
//
// A request passes through the files in this order:
//
//	router.go     one route for each form of a path; requestid.go, log.go and errors.go are around all of it
//	params.go     path and query in the form that openapi.yaml has them: unescaped, @me, PHP's brackets
//	body.go       one JSON value of at most 1 MiB
//	validate.go   what openapi.yaml says; fields.go and words.go tell in words what is wrong
//	client.go …   the handlers: they ask the store and name the answer
//	errors.go     the one place where an error becomes an answer
//
// main.go reads the command line, config.go and env.go the settings, serve.go starts and stops; docs.go shows
// openapi.yaml, health.go answers probes, drain.go lets them see a stop before it; metrics.go measures, trace.go
// follows requests to what comes of them.
//
// echo.Context stays in the middlewares. No text of Go, SQL or a file reaches a client.
package main
