// Package telemetry shows an operator what the program does: its log, its metrics and its traces.
//
//	log.go          the log: times, causes of errors, and one line for what the store has logged already
//	request_log.go  one line for every request that reaches the router
//	metrics.go      Prometheus: what requests, attempts and the store count
//	traces.go       OpenTelemetry: a request, the status change that it makes, and each attempt to deliver it
//
// Requests that net/http refuses do not reach the router: server/internal/api logs them as "request refused", and no
// metric counts them. Those of the metrics' own listener are neither logged nor counted.
//
// No secret is in any of them, and no label of a metric names a client, an agent or a URL. It imports
// server/internal/contract and server/internal/request, store, webhook and gen. The rest of the program imports neither
// Prometheus nor OpenTelemetry; tests and the programs beside it do.
package telemetry
