// Package telemetry has the program's log, metrics and traces.
//
//	log.go           the log: times, causes of errors, and one line for each failure that the store reports
//	request_log.go   one line for every request that reaches the router, within the limits of line_limiter.go
//	line_limiter.go  limits the lines of a kind, and counts what happens too often for a line each
//	metrics.go       Prometheus: requests, attempts, and the counts of the store
//	traces.go        OpenTelemetry: a request, its status change, and each attempt to deliver the change
//
// Requests that net/http refuses do not reach the router: server/internal/api logs them as "request refused", and no
// metric counts them. Requests for metrics are neither logged nor counted.
//
// Log, metrics and traces contain no secret. No label of a metric names a client, an agent or a URL. The package
// imports server/internal/contract and server/internal/request, store, webhook and gen. No other package of the program
// imports Prometheus or OpenTelemetry; tests and the test programs do.
package telemetry
