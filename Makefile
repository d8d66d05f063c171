# Needs Go, a C compiler (SQLite is C) and make. `make` alone lists what there is.

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps of `check` read what its first one writes.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables

# Without cgo there is no SQLite: better no program than one that fails at its start.
export CGO_ENABLED := 1

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
FUZZTIME = 60s
BENCH =
CYCLES = 300
LASTS = 3m
REPLICAS = 3
SDK =
REDOCLY = @redocly/cli@2.77.0
SPECTRAL = @stoplight/spectral-cli@6.16.0
# It compares benchmarks.
BENCHSTAT = golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
# The commit that make compare compares this tree with.
BEFORE = HEAD
# It draws the picture of the README.
D2 = oss.terrastruct.com/d2@v0.7.2
# What npm takes for the newest Swagger UI 5; the one that is served is recorded in server/internal/api/docs/swagger-ui/VERSION.
SWAGGER_UI = 5

lint := .ci/bin/golangci-lint

# openapi.yaml is linted wherever npx (of Node.js) is, and in CI in any case: there, without npx, the check fails.
CI ?=
check_spec := $(if $(CI)$(shell command -v npx 2>/dev/null || true),lint-spec,no-spec-lint)

# Nothing is shown of a package that passes, so `test` itself says where PostgreSQL was skipped. With CI set, the tests fail
# then.
AGENTEVENTS_TEST_POSTGRES_URL ?=
postgres = $(AGENTEVENTS_TEST_POSTGRES_URL)$(shell command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null || true)

# Packages are tested in the order in which they are named: those that take longest first, or they are alone in the end.
longest := ./store ./server/internal/api ./server/e2e ./server

# What go test has in its cache does not know on which engine it was, so the run on PostgreSQL takes nothing from there.
# The packages whose tests run on PostgreSQL too. Each engine has a run of its own, within bounds of its own.
on_postgres = $(shell grep -rlE --include='*_test.go' 'pgtest[.](Main|EngineVariable)' store server | xargs -n1 dirname | sort -u | sed 's|^|./|')

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build ## build, then show the example of the README happen for real
	@go run ./server/demo -binary bin/agentevents

.PHONY: test
test: ## run all tests, those of the store and of what the API promises on SQLite and on PostgreSQL (initdb, or AGENTEVENTS_TEST_POSTGRES_URL)
	@echo "make test: on SQLite, and what is not about the store"
	@AGENTEVENTS_TEST_ENGINE=sqlite go run ./.ci/progress -timeout 60m $(longest) ./...
	@echo "make test: on PostgreSQL"
	@AGENTEVENTS_TEST_ENGINE=postgres go run ./.ci/progress -count=1 -timeout 60m $(longest) $(on_postgres)
	$(if $(postgres),,@echo "make test: NOTHING was tested on PostgreSQL: neither initdb nor AGENTEVENTS_TEST_POSTGRES_URL is there" >&2)

.PHONY: run
run: build ## build and serve for trying it out: receivers on loopback allowed, store in bin/, a client and tokens made
	@go build -buildvcs=false -o bin/demo ./server/demo
	@exec bin/demo -binary bin/agentevents -serve

.PHONY: build
build: ## build bin/agentevents
	go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/agentevents ./server

.PHONY: generate
generate: ## generate gen/ from openapi.yaml
	go generate ./gen/...

.PHONY: picture
picture: ## draw the picture of the README, .github/status-change.svg, from the .d2 file beside it
	@go run $(D2) --pad 10 --theme 0 --dark-theme 200 .github/status-change.d2 .github/status-change.svg

.PHONY: swagger-ui
swagger-ui: ## put the newest Swagger UI into server/internal/api/docs/swagger-ui (needs npm; SWAGGER_UI=5.35.0 for that version)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; to="$(CURDIR)/server/internal/api/docs/swagger-ui"; \
	cd "$$dir"; npm pack --silent "swagger-ui-dist@$(SWAGGER_UI)" >/dev/null; tar xzf swagger-ui-dist-*.tgz; \
	sum=$$(openssl dgst -sha512 -binary swagger-ui-dist-*.tgz | openssl base64 -A); cd package; mkdir -p "$$to"; \
	cp LICENSE NOTICE favicon-32x32.png "$$to"; \
	for file in swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css; do gzip -9n <"$$file" >"$$to/$$file.gz"; done; \
	version=$$(sed -n 's/^ *"version": "\(.*\)",*$$/\1/p' package.json); \
	printf 'swagger-ui-dist %s\nsha512-%s\n' "$$version" "$$sum" >"$$to/VERSION"; cat "$$to/VERSION"

.PHONY: check
check: check-gen check-fmt check-vet check-lint check-house check-tidy check-breaking $(check_spec) ## check everything that is not a test: generated code, format, vet, lint, figures of the code, go.mod, openapi.yaml and what of it would break clients

# Compared with a copy and not with git, so that it tells the truth in a dirty tree too.
.PHONY: check-gen
check-gen:
	@echo "check: gen/ is what openapi.yaml generates"
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
	@echo "check: names, imports, sizes and words are as .ci/house has them (go run ./.ci/house -v lists every place)"
	@out=$$(go run ./.ci/house 2>&1) || { echo "$$out"; exit 1; }

.PHONY: check-tidy
check-tidy:
	@echo "check: go.mod and go.sum are tidy"
	@go mod tidy -diff

.PHONY: check-breaking
check-breaking:
	@echo "check: openapi.yaml breaks no client, but for what .ci/contract/breaking.txt names"
	@cd .ci/contract && out=$$(go run . 2>&1) || { echo "$$out"; exit 1; }

.PHONY: lint-spec
lint-spec: ## lint openapi.yaml (needs npx, of Node.js)
	@echo "check: openapi.yaml obeys the rules of .redocly.yaml and .spectral.yaml"
	@out=$$(REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
		npx --yes $(REDOCLY) lint --config .redocly.yaml openapi.yaml 2>&1) || { echo "$$out"; exit 1; }
	@out=$$(npx --yes $(SPECTRAL) lint --fail-severity=hint -r .spectral.yaml openapi.yaml 2>&1) || { echo "$$out"; exit 1; }

.PHONY: no-spec-lint
no-spec-lint:
	@echo "check: openapi.yaml is NOT linted, since there is no npx (of Node.js)"

.PHONY: fmt
fmt: $(lint) ## format the Go code
	@$(lint) fmt

.PHONY: race
race: ## run the tests under the race detector on SQLite, but for two of the benchmark, whose programs are built without it, and that of the browser, whose work is in the page, and those of the store about several processes on PostgreSQL
	AGENTEVENTS_TEST_ENGINE=sqlite go test -race -timeout 60m -skip '^(TestWorkloads|TestPrograms|TestDocumentationInABrowser)$$' $(longest) ./...
	AGENTEVENTS_TEST_ENGINE=postgres go test -race -timeout 60m -run 'Feed|Copy|Migrates|Redeliver|Record|Replay|Status|Claim' ./store

.PHONY: crash
crash: build ## kill the program (-9) 300 times, then replicas on PostgreSQL, and count what is lost (CYCLES=50 LASTS=1m REPLICAS=2 for less)
	@go run ./server/crash -binary bin/agentevents -cycles $(CYCLES)
	@go run ./server/crash -binary bin/agentevents -replicas $(REPLICAS) -lasts $(LASTS)

.PHONY: sdk
sdk: build ## generate SDKs from openapi.yaml as gen/README.md says, and use each against the program (SDK=python,php for some)
	@go run ./server/sdk -binary bin/agentevents -only '$(SDK)'

# One at a time: go test fuzzes only one target per run.
.PHONY: fuzz
fuzz: ## run each fuzz test of webhook/ for a minute (FUZZTIME=10s for less)
	@names=$$(go test -list '^Fuzz' ./webhook); \
	for name in $$names; do \
		case $$name in Fuzz*) go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./webhook ;; esac; \
	done

.PHONY: bench
bench: build ## measure for more than an hour how fast the program is, held against floors, and compare by benchstat (BENCH="burst steady" for some workloads: burst, steady, shift, fanout, isolation, backlog, soak; go run ./server/bench -h lists flags)
	@go run ./server/bench -binary bin/agentevents $(BENCH) >bin/bench.txt || { cat bin/bench.txt; exit 1; }
	@go run $(BENCHSTAT) -filter '.name:(Burst OR Steady OR Shift OR Fanout)' -col /on bin/bench.txt
	@go run $(BENCHSTAT) -filter '.name:(Isolation OR Backlog OR Soak)' -col /when bin/bench.txt

.PHONY: compare
compare: build ## build the commit BEFORE too, measure both in turn, and compare them by benchstat (BEFORE=HEAD~10 BENCH="-count 10 burst steady")
	@rm -rf bin/before; mkdir -p bin/before; git archive $(BEFORE) | tar xC bin/before
	@cd bin/before && go build -trimpath -buildvcs=false -o ../agentevents-before ./server
	@rm -rf bin/before
	@go run ./server/bench -binary bin/agentevents-before,bin/agentevents -floors none $(BENCH) >bin/compare.txt || { cat bin/compare.txt; exit 1; }
	@go run $(BENCHSTAT) -col /binary bin/compare.txt

.PHONY: clean
clean: ## remove what was built, and the store of make run
	rm -rf bin .ci/bin
	find . -name rapid -path '*/testdata/rapid' -prune -exec rm -rf {} +

# Takes some minutes the first time.
$(lint): .ci/tools/go.mod .ci/tools/go.sum
	@echo "building golangci-lint as pinned in .ci/tools/go.mod"
	@cd .ci/tools && go build -buildvcs=false -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
