# Build it, test it, show it. `make help` lists the targets.

CARGO ?= cargo
# Cargo's own default, unless the environment says otherwise.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET_DIR)/debug
# How many seeds of the simulator `make test` runs.
SEEDS ?= 1..200
# The lock file says what is built; the same packages are always built together, so that nothing is built twice.
FLAGS := --workspace --locked
# The tests that run whole nodes, for cargo-nextest; and their files.
NODES := package(cluster-tests) | package(interop-tests) | package(guest-tests) | binary_id(faults::short)
NODE_TESTS := $(patsubst %.rs,--test %,$(notdir $(wildcard \
    integration/cluster/tests/*.rs integration/interop/tests/*.rs integration/guests/tests/*.rs \
    integration/faults/tests/*.rs)))

export PATH := $(PATH):$(HOME)/.cargo/bin

.NOTPARALLEL:
.PHONY: help demo build test deps deps-test format lint unit docs licences simulate python monitoring cluster package bench clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: build ## Three nodes on this machine: a cluster's life in six steps, each checked
	$(BIN)/playground demo

build: deps ## Build everything
	$(CARGO) build $(FLAGS)

test: deps-test format lint unit docs licences simulate python monitoring cluster package ## Everything that a change must pass
	$(BIN)/playground demo

deps: ## Install or name what the build needs
	@scripts/install-deps

deps-test: ## Install or name what the tests need
	@scripts/install-deps test

format: ## Check the format
	$(CARGO) fmt --all --check

lint: deps ## Check with clippy; warnings are errors
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings

unit: build ## All tests of all crates but those with whole nodes
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run $(FLAGS) -E 'not ($(NODES))' && \
	    $(CARGO) test $(FLAGS) --doc; \
	else \
	    $(CARGO) test $(FLAGS) --lib --bins && \
	    $(CARGO) test $(FLAGS) --exclude cluster-tests --exclude interop-tests --exclude guest-tests --exclude faults --test '*' && \
	    $(CARGO) test $(FLAGS) --doc; \
	fi

docs: deps ## Build the documentation; broken links are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(FLAGS) --no-deps

licences: deps ## Check licences, sources and banned crates; with cargo-deny, too, if it is installed
	$(CARGO) test $(FLAGS) --test licences
	if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --locked check licenses bans sources; \
	fi

simulate: build ## Run seeds of the simulator: make simulate SEEDS=1..1000
	$(BIN)/simulate --seeds $(SEEDS)

python: build deps-test ## The Python client and the trace sink against real nodes
	integration/python/run-tests

monitoring: build deps-test ## Rules and dashboards: Prometheus reads a real cluster, every panel has data, alerts fire and end
	integration/monitoring/run-tests

cluster: build deps-test ## Real daemons, on the playground and in a ring with corosync's: partitions, crashes, joins
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run $(FLAGS) -E '$(NODES)' --test-threads 2; \
	else \
	    $(CARGO) test $(FLAGS) $(NODE_TESTS) -- --test-threads 2; \
	fi

package: build deps-test ## Make the Debian package, ask lintian, and run it under a real systemd
	integration/systemd/run-tests "$$(scripts/package)"

bench: build ## Measure a cluster of three nodes on this machine
	integration/bench/run $(BIN)

clean: ## Remove what was built
	$(CARGO) clean
