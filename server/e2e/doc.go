// Package e2e tests the program from outside, as its users see it. The real binary, built once, is a process with its
// own database; the generated client is on one side, and receivers on loopback are on the other. The tests run on
// SQLite and then on PostgreSQL. A test that does not depend on the engine runs only on SQLite, and gives the reason.
//
// A test belongs here if it needs the process: signals, settings, several servers, the bytes that a receiver gets. The
// answer to one request is a scenario of server/internal/api/contract_*_test.go.
//
//   - main_test.go: the binaries, databases, and the helpers that compare and wait
//   - process_test.go, receiver_test.go, api_test.go: the server, the receivers and the client, based on lab
//   - story_test.go, php_test.go: the example of the API manual, and the contents of requests
//   - compat_*_test.go: clients of the original API, and the callers of gen/README.md
//   - guides_test.go: the commands of the guides, and the quick start and the receiver of the README
//   - start_test.go, stop_test.go, make_run_test.go: start, stop, make run and make demo
//   - application_test.go, audit_test.go, signature_test.go: access, secrets and signatures
//   - retry_test.go, replay_test.go, delivery_log_test.go, warnings_test.go: failed deliveries, and their log
//   - backup_test.go, copy_test.go: copies of a database
//   - replicas_test.go, postgres_away_test.go: several processes, and an unavailable database
//   - prometheus_test.go: metrics, alerts and the dashboard
package e2e
