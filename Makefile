# `make run` and `make test` do all set-up themselves. `make help` lists the rest.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

ifeq ($(wildcard src/main.rs),)
$(error call this with `make -C FOLDER`, where FOLDER is the one this Makefile stands in)
endif

# rustup puts cargo here, and not every login shell looks there.
export PATH := $(PATH):$(HOME)/.cargo/bin

LIMEN := $(or $(CARGO_TARGET_DIR),target)/release/limen
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/limen-tools/bin
SCRIPTS := $(shell find .ci tools tests models fuzz benches packaging fleet \( -path '*/target' -o -path '*/node_modules' \) -prune -o -type f \( -name '*.sh' -o -path .ci/run -o -path fleet/device/limen-deploy \) -print 2>/dev/null)

# What the binary and the tests find the runtime and the networks by.
RUNTIME := LIMEN_LITERT__LIBRARY=.setup/lib/libLiteRt.so LIMEN_MODELS__FOLDER=models

# Further arguments for the command behind `run`, `bench`, `eval` and `models`.
ARGS ?=
# Folder of photographs for `models`; without it the recorded calibration is used.
export CALIBRATION ?=
# Seconds for each target of `fuzz`.
SECONDS_EACH ?= 60

.PHONY: help run test setup build cross deb package reproducible fleet yocto fmt lint deny bench eval models pages pictures lab appliance fuzz docs clean distclean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'For example: make run ARGS="--source /dev/video0"'

run: build ## the demo: names on faces in a built-in moving scene
	$(RUNTIME) LIMEN_HTTP__LISTEN="$${LIMEN_HTTP__LISTEN-127.0.0.1:8480}" '$(LIMEN)' run --demo $(ARGS)

test: ## every test
	@tools/setup.sh test
	tests/setup.sh
	tests/models.sh
	$(RUNTIME) tests/run.sh

setup: ## what building and running need; called by the other targets
	@tools/setup.sh

build: setup ## the release binary
	cargo build --release --locked

cross: ## the binary for aarch64, tried in an emulator; PROFILE=dev skips optimisation
	PROFILE=$(or $(PROFILE),release) packaging/cross.sh
	PROFILE=$(or $(PROFILE),release) $(RUNTIME) tests/cross.sh

deb: ## Debian packages in target/deb; ARCH=arm64 or amd64, PROFILE=dev skips optimisation
	packaging/deb.sh

package: ## the packages: lintian, installing, upgrading, removing, purging (as root)
	tests/package.sh

reproducible: ## the packages built twice from clean clones, compared; ARCH, PROFILE as for deb
	tests/reproducible.sh

fleet: ## updates of 20 hosts over SSH, bad releases, hosts that die meanwhile (as root)
	tests/fleet.sh

yocto: setup ## the Yocto layer: lint, recipes against what they package, slots, bundles (as root)
	$(RUNTIME) tests/yocto.sh

fmt: ## format the code
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml

lint: ## formatting, clippy, documentation, shell scripts, dependencies
	@tools/setup.sh lint
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
	shellcheck $(SCRIPTS)
	@$(MAKE) --no-print-directory deny

# The database of advisories is a download, and a build must not depend on it.
deny: ## licences, sources and advisories of the dependencies
	@tools/setup.sh lint
	'$(TOOLS)/cargo-deny' --log-level error check bans licenses sources
	@if '$(TOOLS)/cargo-deny' fetch db; then \
		'$(TOOLS)/cargo-deny' --log-level error check --disable-fetch advisories; \
	else \
		echo 'deny: advisories were NOT CHECKED: their database cannot be reached'; \
	fi

bench: build ## time per stage
	$(RUNTIME) '$(LIMEN)' bench $(ARGS)

eval: build ## accuracy on the photographs in LIMEN_EVAL_DATA
	@if [[ -z "$${LIMEN_EVAL_DATA:-}" ]]; then \
		echo 'eval: set LIMEN_EVAL_DATA to a folder of photographs with protocols; see docs/accuracy.md' >&2; \
		exit 2; \
	fi
	$(RUNTIME) '$(LIMEN)' eval "$$LIMEN_EVAL_DATA" $(ARGS)

models: ## make the model files again from their packages; CALIBRATION=folder calibrates anew
	models/recipe/run.sh $${CALIBRATION:+"$$CALIBRATION"} $(ARGS)

pages: build ## time, weight and steadiness of every admin page in a browser
	@tools/setup.sh test
	LIMEN_TEST_PROGRAM='$(LIMEN)' $(RUNTIME) node tests/browser/measure.mjs

pictures: build ## a picture of every admin page in target/pictures
	@tools/setup.sh test
	LIMEN_TEST_PROGRAM='$(LIMEN)' $(RUNTIME) node tests/browser/pictures.mjs

lab: setup ## cameras, the door, displays, failing disks and power cuts with a real kernel in a virtual machine
	tests/lab/run.sh

appliance: ## the installed package under systemd with a real kernel; ARCH=arm64 takes much longer
	tests/lab/appliance.sh $(or $(ARCH),amd64)

# -Z flags on the pinned toolchain, so that no nightly is needed. What a run learns stays out of
# the committed corpus: fuzz/README.md says how a new input gets there. The lock file is the
# program's own, so that what is fuzzed is what ships.
fuzz: ## every fuzz target for SECONDS_EACH seconds
	@tools/setup.sh fuzz
	cp Cargo.lock fuzz/Cargo.lock
	export RUSTC_BOOTSTRAP=1 PATH='$(TOOLS)':"$$PATH"; \
	for target in $$(cargo fuzz list); do \
		echo "fuzz: $$target"; \
		grown="fuzz/target/corpus/$$target" words="fuzz/dictionaries/$$target.dict"; \
		mkdir -p "$$grown"; \
		cargo fuzz run "$$target" "$$grown" "fuzz/corpus/$$target" -- -max_total_time=$(SECONDS_EACH) \
			-timeout=10 -rss_limit_mb=2048 $$([[ ! -e $$words ]] || echo "-dict=$$words"); \
	done

docs: ## write docs/config.md, docs/openapi.json and the metrics of docs/operate.md from the code, and build its documentation
	LIMEN_WRITE_DOCS=1 cargo test --locked --test config reference_page_is_current
	LIMEN_WRITE_DOCS=1 cargo test --locked --lib reference_
	cargo doc --locked --workspace --no-deps

clean: ## remove what was built
	cargo clean
	rm -rf fuzz/target

distclean: clean ## remove what was built and what set-up fetched
	rm -rf .setup
