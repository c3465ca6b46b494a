# Targets write only to var/ (all data), .venv/ and node_modules/ in bench/peers/node/, client/js/,
# client/web/ and tests/browser/ (packages, caches).
# They call the environment's programs as `python -m`: a program's first line would hold the checkout's path, which may contain
# spaces and be too long for a kernel.

PYTHON = .venv/bin/python
CACHE = .venv/cache

export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
# With it set, each process that tests start would compile the same modules, for more than a second.
unexport PYTHONDONTWRITEBYTECODE
export MYPY_CACHE_DIR := $(CACHE)/mypy
export RUFF_CACHE_DIR := $(CACHE)/ruff
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export UV_CACHE_DIR := $(CACHE)/uv
export PIP_CACHE_DIR ?= $(CURDIR)/$(CACHE)/pip
export COVERAGE_FILE := $(CACHE)/coverage
export PYTEST_ADDOPTS := -o cache_dir=$(CACHE)/pytest $(PYTEST_ADDOPTS)

.PHONY: help run demo test again check lint types bench peers guard faults generated fuzz contract js mls browser web nginx ops buses lock clean

# Tests of the suite that `make buses` runs on other topologies of Redis.
ON_BUSES = tests/server/cluster tests/server/delivery tests/jobs/engine/test_queue.py tests/system/test_two_nodes.py tests/system/test_killed_node.py

help:  ## list these targets
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1|/p' Makefile | awk -F '|' '{ printf "%-18s%s\n", $$1, $$2 }'

run: .venv/run.installed  ## start everything, with its own Postgres and Redis, on PORT (8000) and SOCKET_PORT (8001)
	@$(PYTHON) -m embedded.web_packages
	@exec $(PYTHON) -m embedded.run

demo: .venv/run.installed  ## show three people who chat while one of two nodes is killed
	@exec $(PYTHON) -m demo

# Six processes on two cores, since tests wait for services and deadlines more than half of their time. Each would compile the
# same modules in a fresh clone.
test: .venv/dev.installed  ## run the tests
	@$(PYTHON) -m tests.compiled
	$(PYTHON) -m pytest --numprocesses 6 --dist worksteal

again: .venv/dev.installed  ## run the tests that failed last, one after the other
	$(PYTHON) -m pytest --last-failed --last-failed-no-failures none -m "not browser and not web and not nginx and not ops and not mls and not peers and not buses"

check: lint types test  ## run the linters, the type checker and the tests

lint: .venv/dev.installed
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

types: .venv/dev.installed
	$(PYTHON) -m mypy

# Without npm the benchmarks leave the peers in Node out, and say so.
NODE_PEERS = $(if $(shell command -v npm),bench/peers/node/node_modules/.installed)

bench: .venv/dev.installed .venv/plots.installed .venv/peers.installed $(NODE_PEERS)  ## run the benchmarks
	$(PYTHON) -m bench

peers: .venv/dev.installed .venv/plots.installed .venv/peers.installed bench/peers/node/node_modules/.installed  ## test the servers that the benchmarks compare ours with; needs node and npm
	$(PYTHON) -m pytest -m peers

guard: .venv/dev.installed  ## compare the cost of the hot path's pieces with the stored one
	$(PYTHON) -m bench.guard

faults: .venv/dev.installed  ## run the slow tests, which `make test` leaves out: long faults, whole benchmarks, many examples
	@status=0; \
	$(PYTHON) -m pytest -m long --numprocesses 2 --dist worksteal || status=$$?; \
	EXAMPLES=300 $(PYTHON) -m pytest -m hypothesis --numprocesses 2 --dist worksteal tests/protocol tests/store || status=$$?; \
	exit $$status

generated: .venv/dev.installed  ## write the generated files: vectors, pages of docs/, schema.sql
	$(PYTHON) -m tests.protocol.make_vectors
	$(PYTHON) -m tests.protocol.make_states
	$(PYTHON) -m tests.runtime.make_configuration
	$(PYTHON) -m tests.runtime.make_metrics
	$(PYTHON) -m tests.store.make_schema
	$(PYTHON) -m tests.ops.make_dashboard

fuzz: .venv/fuzz.installed  ## fuzz each target for FUZZ_SECONDS (60)
	@$(PYTHON) -m tests.fuzz

contract: .venv/dev.installed .venv/contract.installed  ## run schemathesis against the server's /openapi.json for CONTRACT_SECONDS (60)
	@$(PYTHON) -m tests.contract

js: .venv/run.installed client/js/node_modules/.installed  ## check the JavaScript client's types, test it against a server; needs node and npm
	@$(PYTHON) -m tests.js

mls: .venv/dev.installed .venv/mls.installed client/js/node_modules/.installed  ## run MLS_GROUPS (50) groups of two MLS libraries while nodes die; needs node and npm
	$(PYTHON) -m pytest -m mls

browser: .venv/dev.installed .venv/browser.installed tests/browser/node_modules/.installed client/js/node_modules/.installed  ## test the operations page and the JavaScript client in Debian's Chromium; needs apt-get, node and npm
	$(PYTHON) -m pytest -m browser --numprocesses 2 --dist worksteal

web: .venv/dev.installed .venv/browser.installed tests/browser/node_modules/.installed  ## test the web client in Debian's Chromium; needs apt-get, node and npm
	$(PYTHON) -m embedded.web_packages
	$(PYTHON) -m pytest -m web --numprocesses 2 --dist worksteal

nginx: .venv/dev.installed .venv/nginx.installed  ## test web behind Debian's nginx; needs apt-get
	$(PYTHON) -m pytest -m nginx

ops: .venv/dev.installed .venv/nginx.installed .venv/ops.installed .venv/exporters.installed  ## test ops/: rules, proxies, units, the image, rolling restarts, incidents; needs apt-get
	$(PYTHON) -m pytest -m ops --numprocesses 2 --dist worksteal

buses: .venv/dev.installed  ## test the nodes' messages on three servers of Redis, and on a cluster with replicas
	$(PYTHON) -m pytest -m buses --numprocesses 2 --dist worksteal
	REDIS_TOPOLOGY=three $(PYTHON) -m pytest --numprocesses 2 --dist worksteal $(ON_BUSES)
	REDIS_TOPOLOGY=cluster $(PYTHON) -m pytest --numprocesses 2 --dist worksteal $(ON_BUSES)

clean:  ## remove .venv/ and var/ with all data of `make run`
	rm -rf .venv var bench/peers/node/node_modules client/js/node_modules client/web/node_modules tests/browser/node_modules

lock: .venv/lock.installed  ## renew locks/: the exact versions of all packages, from the ranges in setup.cfg
	$(PYTHON) -m embedded.requirements lock

.venv/run.installed: locks/run.txt .venv/redis.installed
	$(PYTHON) -m embedded.requirements install run
	@touch $@

.venv/dev.installed: locks/dev.txt .venv/redis.installed
	$(PYTHON) -m embedded.requirements install dev
	@touch $@ .venv/run.installed

.venv/contract.installed .venv/mls.installed: .venv/redis.installed
.venv/plots.installed .venv/peers.installed: .venv/dev.installed

.venv/redis.installed .venv/contract.installed .venv/fuzz.installed .venv/mls.installed .venv/plots.installed .venv/peers.installed .venv/lock.installed: .venv/%.installed: locks/%.txt locks/build.txt | .venv/bin/python
	$(PYTHON) -m embedded.requirements install $*
	@touch $@

# With lists and a cache of its own, apt-get needs no root and changes nothing of the system.
FOLDER = $(CURDIR)/.venv/$*
OWN = -o "Dir::State::Lists=$(FOLDER)/lists" -o "Dir::Cache=$(FOLDER)/cache" -o APT::Sandbox::User=
APT = timeout 240 apt-get -q $(OWN)
POSTGRES = $$(apt-cache $(OWN) depends --important postgresql | grep -oE "postgresql-[0-9]+$$" | head -n 1)
LIBRARIES = $$(apt-cache $(OWN) depends --important --recurse haproxy pgbackrest $(POSTGRES) | \
    grep -E "^lib(icu|ldap-2|lua|opentracing|pcre2-8|pq5|sasl2-2|ssl|systemd|xml2)" | sort -u)

.venv/nginx.installed: PACKAGES = nginx
.venv/ops.installed: PACKAGES = prometheus haproxy pgbackrest $(POSTGRES) $(LIBRARIES)
.venv/exporters.installed: PACKAGES = prometheus-node-exporter prometheus-blackbox-exporter

# With an empty list of installed packages, apt-get downloads all libraries of the browser, also those that the machine has. The
# C library has to be that of the machine, from which the loader of programs comes.
.venv/browser.installed: PACKAGES = chromium-headless-shell fonts-dejavu-core
.venv/browser.installed: DOWNLOAD = install --yes --download-only --no-install-recommends -o "Dir::State=$(FOLDER)" \
    -o "Dir::State::status=$(FOLDER)/status" $(PACKAGES) && rm cache/archives/libc6_*.deb && mv cache/archives/*.deb .

.venv/nginx.installed .venv/ops.installed .venv/exporters.installed: DOWNLOAD = download $(PACKAGES)

.venv/browser.installed .venv/nginx.installed .venv/ops.installed .venv/exporters.installed: .venv/%.installed:
	@command -v apt-get >/dev/null || { echo "No apt-get: these tests need Debian or Ubuntu." >&2; exit 1; }
	rm -rf .venv/$* && mkdir -p .venv/$*/lists/partial .venv/$*/cache/archives/partial && touch .venv/$*/status
	cd .venv/$* && $(APT) update && $(APT) $(DOWNLOAD) && \
	    for package in *.deb; do dpkg-deb --extract "$$package" . || exit 1; done
	rm -r .venv/$*/lists .venv/$*/cache .venv/$*/status .venv/$*/*.deb
	@touch $@

client/js/node_modules/.installed: NPM = install
bench/peers/node/node_modules/.installed tests/browser/node_modules/.installed: NPM = ci
bench/peers/node/node_modules/.installed tests/browser/node_modules/.installed: %/node_modules/.installed: %/package-lock.json

bench/peers/node/node_modules/.installed client/js/node_modules/.installed tests/browser/node_modules/.installed: %/node_modules/.installed: %/package.json %/.npmrc
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null || \
	    { echo 'No Node.js 20 or newer with npm: install it (nodejs.org, brew install node, apt install nodejs npm).' >&2; \
	    exit 1; }
	cd $* && npm $(NPM)
	@touch $@

# 3.14 last: it lacks pycddl, so some tests are left out (setup.cfg).
.venv/bin/python:
	@for python in python3.13 python3.12 python3.11 python3.14 python3; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv .venv; \
	    fi; \
	done; \
	echo 'No Python 3.11 or newer with venv: install one (apt install python3 python3-venv, brew install python).' >&2; \
	exit 1
