# Run `make` for the list of targets.

GO      ?= go
VERSION ?= $(shell git describe --tags --match 'v*' 2>/dev/null)
LDFLAGS  = -s -w $(if $(VERSION),-X main.version=$(VERSION))
LINTER   = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The race detector needs a C compiler; without one the tests run all the same.
DETECT := $(if $(shell command -v $${CC:-cc} 2>/dev/null),-race,)

# Packages in which goroutines meet; the race detector costs too much elsewhere.
RACE = ./activator/... ./cli/... ./events/... ./gateway/... ./runtime/engine/... ./runtime/embedded/...

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/kar
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/kar ./cli/kar

.PHONY: demo
demo: build ## kill a component in the middle of a call and see the one result
	@sh examples/greeter-go/demo.sh bin/kar

.PHONY: mesh
mesh: build ## a real Kafka, a real Redis and three gateways on this machine; ARGS='-gateways 5 -dir d' to vary
	$(GO) run ./deploy/mesh $(ARGS)

.PHONY: image
image: ## the container image kar:local, with docker
	docker build -f deploy/Dockerfile -t kar:local --build-arg VERSION=$(VERSION) .

.PHONY: test
test: vet ## vet, format and all tests; whole applications are skipped, loudly, where their language is missing
	@[ -n "$(DETECT)" ] || echo "NOTE: no C compiler, so the tests run WITHOUT the race detector"
	$(GO) test $(DETECT) $(RACE)
	$(GO) test -timeout 20m $$($(GO) list ./... | grep -vE '/(activator|cli|events|gateway|runtime/engine|runtime/embedded)(/|$$)')

.PHONY: vet
vet:
	@files=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$files" ]; then echo "not formatted (make fmt):"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cli/... ./activator/... ./gateway/... ./runtime/...

.PHONY: test-race
test-race: ## all tests with the race detector
	$(GO) test -race ./...

.PHONY: e2e
e2e: ## whole applications through the real binary
	$(GO) test -v -count=1 -timeout 30m ./examples/...

.PHONY: soak
soak: ## kill everything in turn under load; FOR=10m, SEED=n repeats a run
	KAR_SOAK=$(or $(FOR),10m) KAR_SEED=$(SEED) $(GO) test -v -count=1 -timeout 24h -p 1 -run 'Storm|Soak' ./examples ./examples/mesh

.PHONY: sim
sim: ## the simulator; SEED=n for one seed, or FROM=n FOR=1m P=threads for many
	KAR_SEED=$(SEED) KAR_SIM_SEED=$(FROM) KAR_SIM=$(if $(SEED),,$(or $(FOR),1m)) KAR_SIM_PROCS=$(P) GOGC=400 $(GO) test -v -count=1 -timeout 24h -run 'TestSim$$' ./runtime/runtimetest

.PHONY: sim-driver
sim-driver: ## the engine itself in virtual time; FROM=n FOR=1m, ALL=1 goes on behind a failure
	KAR_SEED=$(FROM) KAR_DRIVER=$(or $(FOR),1m) KAR_DRIVER_ALL=$(ALL) $(GO) test -v -count=1 -timeout 24h -run 'TestDriver$$' ./runtime/engine

.PHONY: mutants
mutants: ## plant small bugs in runtime/ and runtime/engine; N=150 how many, FOR=30m, ARGS='-run M19' or '-sim'
	$(GO) run ./runtime/runtimetest/mutants -rules $(or $(N),150) -for $(or $(FOR),24h) $(ARGS)

.PHONY: bench
bench: ## the benchmark table, about 55 minutes; ARGS='-run floor,calls -scale 0.1' for less
	$(GO) run ./bench $(ARGS)

.PHONY: bench-rivals
bench-rivals: ## KAR beside Restate in one run
	$(GO) run ./bench -run rivals $(ARGS)

.PHONY: lint
lint: vet ## vet, format and golangci-lint
	$(GO) run $(LINTER) run ./...

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: release
release: ## dist/: binaries for linux and darwin with checksums; VERSION=v2.0.0
	@rm -rf dist && mkdir dist
	@for os in linux darwin; do for arch in amd64 arm64; do \
		echo "kar-$$os-$$arch"; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' \
			-o dist/kar-$$os-$$arch ./cli/kar || exit 1; \
	done; done
	@cd dist && { sha256sum kar-* 2>/dev/null || shasum -a 256 kar-*; } > SHA256SUMS && cat SHA256SUMS

.PHONY: clean
clean: ## remove what make has built
	rm -rf bin dist
