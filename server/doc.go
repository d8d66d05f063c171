// The program agentevents parses its command line and settings, and runs the other packages.
//
//	main.go           the command line; help.go has the texts of --help
//	config.go         the settings: defaults, bounds and their errors; env.go reads the variables AGENTEVENTS_*, and
//	                  secret.go the files of secrets
//	serve.go          the command serve: the order of start and stop; listener.go opens the addresses
//	memory.go         the limit of memory, from the cgroup or the machine
//	*_cmd.go          the other commands, a file for each; store.go opens the store for them, audit.go logs what they
//	                  have changed
//	version.go        version and commit of the build
//
// The packages in internal serve the API. Imports point right; auth and telemetry do not import each other:
//
//	api → auth, telemetry → contract → request
//
// api has the routes, the handlers and the HTTP server. auth checks tokens, access levels and rate limits. telemetry
// has log, metrics and traces, and reads the variables of OpenTelemetry. contract validates requests against
// openapi.yaml. request has the data of one request and the type of refusals. All of them may import store, webhook and
// gen, and main may import all of them: depguard in .golangci.yml enforces it.
//
// No error text of SQL or of a file reaches a client. Two kinds of Go's error texts do: net/http's reason for rejecting
// the head of a request, and the operating system's reason for a failed connection to a receiver.
//
// The other directories test and monitor the program:
//
//	e2e               tests of the built binary, from outside
//	demo              a program that logs an agent in and out, and shows the webhooks
//	crash             a program that kills servers, and checks that they lose nothing
//	bench             a program that measures servers
//	sdk               a program that generates SDKs from openapi.yaml, and tests each
//	lab               code that these share: server processes, receivers, and a check of deliveries
//	monitoring        alerts for Prometheus, and a dashboard for Grafana
package main
