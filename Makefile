# make run     starts everything on loopback, to try it
# make build   builds bin/drydock and bin/drydock.wasm
# make check   runs what every commit must pass
# make test    runs all tests; CONTRIBUTING.md says what they need
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build
.PHONY: run build check test test-long bench clean

# The packages whose tests start no processes. e2e/graphql and e2e/frameworks are not among them: they
# are modules of their own, so that their servers and parsers do not get into this go.mod.
UNIT = $$(go list ./... | grep -v '/drydock/e2e$$' | grep -v '/e2e/differential$$')
WASM = GOOS=wasip1 GOARCH=wasm
WASM_SOURCES := $(shell find filter -type f -not -name '*_test.go' -not -path '*/testdata/*' -not -path 'filter/wasmhost/*') go.mod go.sum

run: build
	@go build -o bin/run ./e2e/run
	@exec bin/run

build: bin/drydock.wasm
	@go build -trimpath -ldflags='-s -w' -o bin/drydock ./controller/cmd/drydock

# The Go linker exports every callback of the SDK, and the host calls every exported callback on each
# request. filter/trim removes the exports that do nothing.
bin/drydock.wasm: $(WASM_SOURCES)
	@mkdir -p bin
	@$(WASM) go build -buildmode=c-shared -trimpath -ldflags='-s -w' -o $@.new ./filter
	@go run ./filter/trim $@.new
	@mv $@.new $@

check: bin/drydock.wasm
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	  test -z "$$unformatted" || { echo "gofmt these:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	$(WASM) go vet $$($(WASM) go list -f '{{range .GoFiles}}filter/{{.}} {{end}}' ./filter) # its tests run natively
	go tool staticcheck ./...
	cd e2e/graphql && go vet ./...
	cd e2e/frameworks && go vet ./...
	go test -short $(UNIT)
	go test -short -run '^TestBootstrap' ./e2e

# The race detector is only for the controller: a VM of the filter has one thread, and the hosts that
# run it would take minutes under the race detector. The scenarios in ./e2e come last and run alone,
# because they measure times.
test: build
	go test -race -timeout 10m ./controller/... ./e2e/demo
	go test -timeout 10m ./filter/...
	cd e2e/graphql && go test -count=1 -timeout 25m ./...
	cd e2e/frameworks && go test -count=1 -timeout 25m -skip '^TestServersDiffer$$' ./... # it waits for minutes: make test-long runs it
	go test -count=1 -timeout 10m ./e2e/honest ./e2e/differential ./e2e/conventions
	go test -count=1 -timeout 15m ./e2e

# FUZZTIME is how long each fuzz target runs in test-long.
FUZZTIME = 30m

test-long: build
	for package in ./filter/maintenance ./filter/maintenance/graphql; do \
	  for target in $$(go test -list '^Fuzz' $$package | grep ^Fuzz); do \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; done; done
	go test -count=1 -timeout 4h -long ./e2e
	cd e2e/graphql && go test -count=1 -timeout 12h -requests 200000 .
	cd e2e/frameworks && go test -count=1 -timeout 12h -requests 200000 .

bench: build
	go test -run '^$$' -bench . -benchmem ./filter/...
	cd e2e/graphql && go test -run '^$$' -bench Parse -benchmem .
	go run ./e2e/bench
	go run ./e2e/bench -attacks -rounds 5 -requests 200
	go test -count=1 -timeout 30m -run '^TestToggleLatency$$' -v ./e2e

clean:
	rm -rf bin .tools
