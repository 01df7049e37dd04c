# Each target prepares what it needs, so that a fresh clone on a fresh machine can begin with any of them.
# CARGO_TARGET_DIR is honoured.

CARGO ?= cargo
FUZZ_SECONDS ?= 60

.PHONY: help build test demo bench bench-build bench-full fuzz setup lint clean

help:           ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup:          ## install what is missing (Debian 12, Ubuntu)
	@tests/setup.sh

build: setup    ## build the release binaries
	$(CARGO) build --release --locked -p ringfence-dataplane -p ringfence-control -p ringfence

test: setup     ## run every test; DEMO_ONCE and RINGFENCE_TRAFFIC are explained in tests/README.md
	@tests/run.sh

demo: build     ## watch real hosts talk through the appliance, and be stopped by it
	@tests/demo/demo.sh

bench-build: build
	$(CARGO) build --release --locked -p ringfence-dataplane -p ringfence-control -p ringfence --example records

bench: bench-build ## measure beside its peers for five minutes; results go to perf/results
	$(CARGO) run --release --locked -p ringfence-perf -- bench --results perf/results

bench-full: bench-build ## the same with every row, for an hour
	$(CARGO) run --release --locked -p ringfence-perf -- bench --profile full --results perf/results

fuzz: setup     ## run every fuzz target for FUZZ_SECONDS (60) each
	@tests/fuzz.sh $(FUZZ_SECONDS)

lint:           ## formatting, clippy, scripts, licences
	@tests/lint.sh

clean:          ## remove what was built
	$(CARGO) clean
