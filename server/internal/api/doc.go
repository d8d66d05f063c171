// Package api serves the HTTP API: its routes, the handlers of its operations, and the server that they run on. A
// request passes through these files in this order:
//
//	server.go          one listener; connections.go limits the connections of listener.go, nethttp_answer.go answers
//	                   malformed requests
//	browser.go         headers that restrict what a browser does with an answer
//	router.go          the middlewares of all requests, and those of each operation
//	slash_router.go    both forms of each path: with and without a trailing slash
//	request_limits.go  limits of the head of a request
//	admission.go       how many requests are in progress, and how many polls wait; client_limiter.go counts them, and
//	                   test_delivery_limiter.go the test deliveries
//	body_room.go       room for the bodies in progress; fair_room.go gives each client a share
//	idempotency.go     Idempotency-Key
//	fair_reads.go      the turn of a request that reads; fair_writes.go has that of one that writes, except a status
//	client.go …        the handlers, a file for each noun: they call the store, and build the answer
//	redact.go          removes from answers what access level read_only must not see
//	pagination.go      limits of lists, and the link to the next page; page_size.go bounds the bytes of a page
//	errors.go          converts errors of middlewares and handlers to answers
//
// Outside of openapi.yaml, docs.go serves the documentation, health.go the probes, and drain.go waits after a signal
// until load balancers have seen that the server stops.
//
// The contract tests are contract_*_test.go. The head of contract_test.go says how to add a scenario, and
// .github/CONTRIBUTING.md how to add an operation.
//
// Authentication and limits of rates are in server/internal/auth, validation is in server/internal/contract. In this
// package the name api stands for gen/api, the code that is generated from openapi.yaml. echo.Context stays in the
// middlewares: a handler sees only its operation's request. This package may import all packages of the repository that
// are no program; only the program, package main in server, imports it.
package api
