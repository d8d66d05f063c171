# Requires Go, a C compiler (for SQLite) and make. `make` lists the targets.

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The later steps of `check` read files that its first step writes.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables

# SQLite requires cgo. Without this line, the build would succeed and the program fail at its start.
export CGO_ENABLED := 1

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
FUZZTIME = 60s
BENCH =
# The minimum number of faults of one server, the time with faults of replicas, and their number, for make crash.
CRASH_FAULTS = 300
CRASH_TIME = 3m
CRASH_REPLICAS = 3
SDK =
REDOCLY = @redocly/cli@2.77.0
SPECTRAL = @stoplight/spectral-cli@6.16.0
# The tool that compares benchmarks.
BENCHSTAT = golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
# The commit that make compare measures in turn with this tree.
BEFORE = HEAD
# The tool that draws the picture of the README.
D2 = oss.terrastruct.com/d2@v0.7.2
# Version range of make swagger-ui, as for npm. server/internal/api/docs/swagger-ui/VERSION has the current version.
SWAGGER_UI = 5

lint := .ci/bin/golangci-lint

# openapi.yaml is linted if npx (of Node.js) is installed. In CI it is always linted: without npx, the check fails.
CI ?=
check_spec := $(if $(CI)$(shell command -v npx 2>/dev/null || true),lint-spec,no-spec-lint)

# A package that passes prints nothing, so `test` itself reports if PostgreSQL is missing. With CI set, the tests then fail.
AGENTEVENTS_TEST_POSTGRES_URL ?=
postgres = $(AGENTEVENTS_TEST_POSTGRES_URL)$(shell command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null || true)

# The slowest packages are tested first: otherwise they would run alone at the end.
longest := ./store ./server/internal/api ./server/e2e ./server

# The packages whose tests run on PostgreSQL as well, in a separate run. The test cache does not distinguish engines, so the
# run on PostgreSQL does not use it.
on_postgres = $(shell grep -rlE --include='*_test.go' 'pgtest[.](Main|EngineVariable)' store server | xargs -n1 dirname | sort -u | sed 's|^|./|')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build ## build, log an agent in and out, and show the webhooks that a receiver gets
	@go run ./server/demo -binary bin/agentevents

.PHONY: test
test: ## run all tests, and those that use a store a second time on PostgreSQL (requires initdb or AGENTEVENTS_TEST_POSTGRES_URL)
	@echo "make test: on SQLite, with the tests that need no database"
	@AGENTEVENTS_TEST_ENGINE=sqlite go run ./.ci/progress -timeout 60m $(longest) ./... ./.ci/progress
	@echo "make test: on PostgreSQL"
	@AGENTEVENTS_TEST_ENGINE=postgres go run ./.ci/progress -count=1 -timeout 60m $(longest) $(on_postgres)
	$(if $(postgres),,@echo "make test: NOTHING was tested on PostgreSQL, which requires initdb or AGENTEVENTS_TEST_POSTGRES_URL" >&2)

.PHONY: run
run: build ## build and run a server to try out: store in bin/, receivers on loopback allowed, a client and credentials created
	@go build -buildvcs=false -o bin/demo ./server/demo
	@exec bin/demo -binary bin/agentevents -serve

.PHONY: build
build: ## build bin/agentevents
	go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/agentevents ./server

.PHONY: generate
generate: ## generate gen/ from openapi.yaml
	go generate ./gen/...

.PHONY: picture
picture: ## draw the picture of the README, .github/status-change.svg, from .github/status-change.d2
	@go run $(D2) --pad 10 --theme 0 --dark-theme 200 .github/status-change.d2 .github/status-change.svg

.PHONY: swagger-ui
swagger-ui: ## update server/internal/api/docs/swagger-ui to the newest Swagger UI (requires npm; SWAGGER_UI=5.35.0 for a version)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; to="$(CURDIR)/server/internal/api/docs/swagger-ui"; \
	cd "$$dir"; npm pack --silent "swagger-ui-dist@$(SWAGGER_UI)" >/dev/null; tar xzf swagger-ui-dist-*.tgz; \
	sum=$$(openssl dgst -sha512 -binary swagger-ui-dist-*.tgz | openssl base64 -A); cd package; mkdir -p "$$to"; \
	cp LICENSE NOTICE favicon-32x32.png "$$to"; \
	for file in swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css; do gzip -9n <"$$file" >"$$to/$$file.gz"; done; \
	version=$$(sed -n 's/^ *"version": "\(.*\)",*$$/\1/p' package.json); \
	printf 'swagger-ui-dist %s\nsha512-%s\n' "$$version" "$$sum" >"$$to/VERSION"; cat "$$to/VERSION"

.PHONY: check
check: check-gen check-fmt check-vet check-lint check-house check-tidy check-breaking $(check_spec) ## run all checks except tests: generated code, format, vet, lint, names, sizes, links and words, go.mod, openapi.yaml and its compatibility

# The check compares with a copy, not with git, so that it works in a tree with changes.
.PHONY: check-gen
check-gen:
	@echo "check: gen/ is up to date with openapi.yaml"
	@old=$$(mktemp -d); trap 'rm -rf "$$old"' EXIT; \
	cp -R gen "$$old/gen"; \
	go generate ./gen/...; \
	diff -r "$$old/gen" gen || { echo "gen/ was out of date; it is regenerated now" >&2; exit 1; }

.PHONY: check-fmt
check-fmt: $(lint)
	@echo "check: Go code is formatted by gofumpt (make fmt does it)"
	@$(lint) fmt --diff

.PHONY: check-vet
check-vet:
	@echo "check: go vet finds nothing"
	@go vet ./... ./.ci/house ./.ci/progress

.PHONY: check-lint
check-lint: $(lint)
	@echo "check: golangci-lint finds nothing, the order of imports included"
	@$(lint) run ./... ./.ci/house/... ./.ci/progress/...

.PHONY: check-house
check-house:
	@echo "check: names, imports, sizes, links and words are within their limits (go run ./.ci/house -v lists all places)"
	@out=$$(go run ./.ci/house 2>&1) || { echo "$$out"; exit 1; }

.PHONY: check-tidy
check-tidy:
	@echo "check: go.mod and go.sum are tidy"
	@go mod tidy -diff

.PHONY: check-breaking
check-breaking:
	@echo "check: openapi.yaml has no breaking change except those in .ci/contract/breaking.txt"
	@cd .ci/contract && out=$$(go run . 2>&1) || { echo "$$out"; exit 1; }

.PHONY: lint-spec
lint-spec: ## lint openapi.yaml (requires npx, of Node.js)
	@echo "check: openapi.yaml obeys the rules of .redocly.yaml and .spectral.yaml"
	@out=$$(REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
		npx --yes $(REDOCLY) lint --config .redocly.yaml openapi.yaml 2>&1) || { echo "$$out"; exit 1; }
	@out=$$(npx --yes $(SPECTRAL) lint --fail-severity=hint -r .spectral.yaml openapi.yaml 2>&1) || { echo "$$out"; exit 1; }

.PHONY: no-spec-lint
no-spec-lint:
	@echo "check: openapi.yaml is NOT linted, which requires npx (of Node.js)"

.PHONY: fmt
fmt: $(lint) ## format the Go code
	@$(lint) fmt

# Skipped are two tests of programs that are built without the detector, and one whose code runs in the browser. The run
# on PostgreSQL selects tests by parts of their names: add the name of each new test of several processes.
.PHONY: race
race: ## run the tests with the race detector on SQLite, and the store's tests of several processes on PostgreSQL
	AGENTEVENTS_TEST_ENGINE=sqlite go test -race -timeout 60m -skip '^(TestWorkloads|TestPrograms|TestDocumentationInABrowser)$$' $(longest) ./...
	AGENTEVENTS_TEST_ENGINE=postgres go test -race -timeout 60m -run 'Feed|Copy|Migrates|Redeliver|Record|Replay|Status|Claim' ./store

.PHONY: crash
crash: build ## inject 300 faults (mostly kill -9) into one server, then faults into replicas on PostgreSQL for 3 minutes (requires initdb and postgres on this machine), and check that nothing is lost (CRASH_FAULTS=50 CRASH_TIME=1m CRASH_REPLICAS=2)
	@go run ./server/crash -binary bin/agentevents -faults $(CRASH_FAULTS)
	@go run ./server/crash -binary bin/agentevents -replicas $(CRASH_REPLICAS) -lasts $(CRASH_TIME)

.PHONY: sdk
sdk: build ## generate SDKs from openapi.yaml by the commands of gen/README.md, and test each (SDK=python,php for some)
	@go run ./server/sdk -binary bin/agentevents -only '$(SDK)'

# go test fuzzes only one target per run.
.PHONY: fuzz
fuzz: ## run each fuzz test of webhook/ for a minute (FUZZTIME=10s)
	@names=$$(go test -list '^Fuzz' ./webhook); \
	for name in $$names; do \
		case $$name in Fuzz*) go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./webhook ;; esac; \
	done

.PHONY: bench
bench: build ## measure the server for more than an hour, and compare it with floors by benchstat (BENCH="burst steady" for some of burst, steady, shift, fanout, isolation, backlog, soak, neighbours)
	@go run ./server/bench -binary bin/agentevents $(BENCH) >bin/bench.txt || { cat bin/bench.txt; exit 1; }
	@go run $(BENCHSTAT) -filter '.name:(Burst OR Steady OR Shift OR Fanout)' -col /on bin/bench.txt
	@go run $(BENCHSTAT) -filter '.name:(Isolation OR Backlog OR Soak)' -col /when bin/bench.txt
	@go run $(BENCHSTAT) -col /on \
		-filter '.name:Neighbours .unit:(call-ratio OR arrival-ratio OR errors OR peak-B OR disk-B)' bin/bench.txt

.PHONY: compare
compare: build ## measure this tree and the commit BEFORE in turn, and compare them by benchstat (BEFORE=HEAD~10 BENCH="-count 10 burst steady")
	@rm -rf bin/before; mkdir -p bin/before; git archive $(BEFORE) | tar xC bin/before
	@cd bin/before && go build -trimpath -buildvcs=false -o ../agentevents-before ./server
	@rm -rf bin/before
	@go run ./server/bench -binary bin/agentevents-before,bin/agentevents -floors none $(BENCH) >bin/compare.txt || { cat bin/compare.txt; exit 1; }
	@go run $(BENCHSTAT) -col /binary bin/compare.txt

.PHONY: clean
clean: ## remove all built files, and the store of make run
	rm -rf bin .ci/bin
	find . -name rapid -path '*/testdata/rapid' -prune -exec rm -rf {} +

# The first build takes some minutes.
$(lint): .ci/tools/go.mod .ci/tools/go.sum
	@echo "building golangci-lint as pinned in .ci/tools/go.mod"
	@cd .ci/tools && go build -buildvcs=false -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
