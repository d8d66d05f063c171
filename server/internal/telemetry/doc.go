// Package telemetry shows an operator what the program does: its log, its metrics and its traces.
//
//	log.go          the log: times, causes of errors, and one line for what the store has logged already
//	request_log.go  one line for every request
//	metrics.go      Prometheus: what requests, attempts and the store count
//	traces.go       OpenTelemetry: a request, the status change that it makes, and each attempt to deliver it
//
// No secret is in any of them, and no label of a metric names a client, an agent or a URL. It imports
// server/internal/contract and server/internal/request, store, webhook and gen. No other package of the server imports
// Prometheus or OpenTelemetry.
package telemetry
