// The program agentevents reads its command line and settings, and puts the other packages together.
//
//	main.go           the command line; help.go has the texts of --help
//	config.go         the settings: defaults, bounds and their errors; env.go reads the variables AGENTEVENTS_*
//	serve.go          the command serve: what starts and stops in which order; listener.go opens the addresses
//	memory.go         the limit of memory, from the cgroup or the machine
//	*_cmd.go          the other commands, a file for each; store.go opens the store for them
//	version.go        what was built
//
// The packages in internal serve the API. Imports point right; auth and telemetry do not import each other:
//
//	api → auth, telemetry → contract → request
//
// api has the routes, the handlers and the HTTP server; auth checks tokens, access and rates; telemetry has log,
// metrics and traces, and reads the variables of OpenTelemetry; contract validates requests against openapi.yaml;
// request is what is known of one request, and how it is refused. All of them may import store, webhook and gen, and
// main may import all of them: depguard in .golangci.yml holds it.
//
// No error text of SQL or of a file reaches a client. Of Go's error texts two kinds do: net/http's reason why the head
// of a request is malformed, and the system's reason why a connection to a receiver failed.
//
// Beside them are no parts of the program, but what tries it and watches it:
//
//	e2e               tests of the built binary, from outside
//	demo              a program that shows the story of one agent
//	crash             a program that kills servers, and checks that nothing is lost
//	bench             a program that measures servers
//	sdk               a program that generates SDKs from openapi.yaml, and uses each
//	lab               what these share: a server as a process, receivers, and a check of what arrives
//	monitoring        alerts for Prometheus, and a dashboard for Grafana
package main
