// Package e2e tries the program from outside, as its users do: the real binary, built once, is a process with a
// database of its own; the generated client is on one side, and receivers on loopback are on the other. Its tests run
// on SQLite and then on PostgreSQL; a test that does not depend on the engine runs on SQLite only, and says why.
//
// A test belongs here if it needs the process: signals, settings, several servers, the bytes that a receiver gets. What
// one request is answered is a scenario of server/internal/api/contract_*_test.go.
//
//   - main_test.go: the binaries, databases, and what a test compares and waits with
//   - process_test.go, receiver_test.go, api_test.go: the server, the receivers and the client, made of those of lab
//   - story_test.go, php_test.go: the example of the API manual, and the contents of requests
//   - compat_*_test.go: clients of the original API with their habits, and the clients of the README
//   - start_test.go, stop_test.go, make_run_test.go: the life of a process
//   - application_test.go, audit_test.go, signature_test.go: access, secrets and signatures
//   - retry_test.go, replay_test.go, delivery_log_test.go, warnings_test.go: deliveries that fail, and their log
//   - backup_test.go, copy_test.go: copies of a database
//   - replicas_test.go, postgres_away_test.go: several processes, and a database that goes away
//   - prometheus_test.go: metrics, alerts and the dashboard
package e2e
