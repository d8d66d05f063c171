// The program agentevents reads its command line and settings, and puts the other packages together.
//
//	main.go           the command line; help.go has the texts of --help
//	config.go         the settings: defaults, bounds and their errors; env.go has the variables of the environment
//	serve.go          the command serve: what starts and stops in which order; listener.go opens the addresses
//	*_cmd.go          the other commands, a file for each
//	version.go        what was built
//
// The packages in internal serve the API. Each imports only those to its right, and store:
//
//	api → auth, telemetry → contract → request
//
// api has the routes, the handlers and the HTTP server; auth checks tokens, access and rates; telemetry has log,
// metrics and traces; contract validates requests against openapi.yaml; request is what is known of one request, and
// how it is refused. main imports all of them, store and webhook. No text of Go, SQL or a file reaches a client.
package main
