# updp-compile: what a developer types. `make help` lists the targets; every target may be repeated.
# Needs make, cargo, python3 and a C linker; package registries (crates.io, PyPI) are the only network use.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
VENV_READY := $(VENV)/.ready
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
ORT_VERSION := $(shell sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' scripts/requirements-ort.txt)
ORT_LIBRARY := target/ort/libonnxruntime.so.$(ORT_VERSION)
ORT_LINK := target/ort/libonnxruntime.so
COMPILER := target/release/updp-compile
ZOO := target/release/updp-zoo

# Rows of the benchmark: full-size models that the zoo tool writes with their BatchNormalizations, and how often each is run.
BENCH_MODELS ?= tv_resnet34 timm_convnext_tiny timm_deit_small timm_mobilenetv2_140 timm_repvgg_a0 timm_mobileone_s0
BENCH_DIALECT ?= legacy17-preserve
BENCH_RUNS ?= 5
# Folders that `make corpus` walks besides the onnx wheel's backend tests.
CORPUS ?= fixtures $(wildcard ../shared/corpus)

# The images of the demo and of `make fit-table`: Debian's package dataset-fashion-mnist.
FASHION_MNIST := /usr/share/datasets/fashion-mnist

# What `make fuzz` runs, and how long.
TARGET ?= compile
SECONDS ?= 600

export CARGO_TARGET_DIR := $(CURDIR)/target
export ORT_DYLIB_PATH := $(CURDIR)/$(ORT_LINK)
export RUSTDOCFLAGS := -D warnings
# A test that would skip itself because something is missing fails instead: here everything is brought first.
export UPDP_NO_SKIP := 1

# Checks licences, sources and advisories of all crates. The version is part of the name, so the file itself says which it is.
DENY_VERSION := 0.20.2
DENY := target/tools/bin/cargo-deny-$(DENY_VERSION)
comma := ,

# Builds the documentation site.
MDBOOK_VERSION := 0.5.4
MDBOOK := target/tools/bin/mdbook-$(MDBOOK_VERSION)
DEMO_REPORT := target/demo/resnet.html

# What `make release-dry-run` makes, and the system it is for.
RELEASE_FILES := target/release-files
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# Crates that are published; the others are for tests.
PUBLISHED := --workspace --exclude updp-testkit --exclude updp-zoo --exclude updp-python

# `$(call step,TEXT)` prints the header of a step.
step = @printf '\n== %s\n' '$(1)'
# `$(call apt_install,PACKAGE)` installs a Debian package, as root or through sudo, or says what is missing.
apt_install = if [ "$$(id -u)" = 0 ]; then apt-get update && apt-get install -y --no-install-recommends $(1); \
	elif sudo -n true 2>/dev/null; then sudo apt-get update && sudo apt-get install -y --no-install-recommends $(1); \
	else echo 'missing Debian package: $(1). As root: apt-get install $(1)' >&2; exit 1; fi

.PHONY: help setup tools ort browser test fmt lint supply faults wheel wheel-check dist docs portability package-check release-dry-run demo cost-model bench corpus models-check depth prune-check fit-table fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile

setup: tools ort ## bring what building and testing needs
	$(call step,fetch crates)
	cargo fetch --locked

tools:
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust (rust-toolchain.toml names the version)' >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) is missing: apt-get install python3' >&2; exit 1; }
	@command -v cc >/dev/null || { $(call apt_install,build-essential); }

ort: $(ORT_LIBRARY) ## bring the ONNX Runtime library into target/ort
	@ln -s $(notdir $(ORT_LIBRARY)) $(ORT_LINK).partial.$$$$ && mv -fT $(ORT_LINK).partial.$$$$ $(ORT_LINK)
	@echo "ONNX Runtime $(ORT_VERSION): $(ORT_LINK)"

# The version is part of the name, so the file itself says that the work is done. Requirements are order-only: a fresh
# checkout must not fetch again.
$(ORT_LIBRARY): | $(VENV_READY)
	$(call step,download ONNX Runtime $(ORT_VERSION))
	@mkdir -p target/ort
	@rm -rf target/ort/wheel
	$(PIP) download --no-deps --only-binary :all: --require-hashes -r scripts/requirements-ort.txt -d target/ort/wheel
	$(VENV)/bin/python scripts/unpack_ort.py target/ort/wheel $(ORT_LIBRARY)
	@rm -rf target/ort/wheel

$(VENV_READY):
	$(call step,make the Python environment $(VENV))
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(call apt_install,python3-venv); $(PYTHON) -m venv $(VENV); }
	@touch $@

# `$(VENV)/.<name>`: the packages of scripts/requirements-<name>.txt are installed.
$(VENV)/.check $(VENV)/.bench $(VENV)/.wheel $(VENV)/.portability: $(VENV)/.%: scripts/requirements-%.txt | $(VENV_READY)
	$(call step,install $<)
	$(PIP) install --quiet --only-binary :all: --require-hashes -r $<
	@touch $@

browser: ## bring a Chromium: the tests open the pages of reports in it
	@command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || { $(call apt_install,chromium); }

test: setup browser $(VENV)/.check supply ## format, lints, every test, documentation; nothing is skipped
	$(call step,format)
	cargo fmt --all --check
	$(call step,clippy)
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(call step,tests)
	cargo test --locked --workspace
	$(MAKE) wheel-check
	$(call step,injected faults)
	$(PYTHON) scripts/fault_injection.py target/debug/updp-compile --faults 60 --jobs compile,train --seconds 50
	$(call step,documentation)
	@# With the examples, so that dependencies have the features they were checked with for clippy: without, tract is checked again.
	cargo doc --locked --no-deps --workspace --lib --examples

fmt: ## format the Rust sources
	cargo fmt --all

lint: tools supply ## format check, clippy, cargo-deny
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Built once and without optimization: it has to build quickly, not to run fast.
$(DENY):
	$(call step,build cargo-deny $(DENY_VERSION))
	CARGO_TARGET_DIR=$(CURDIR)/target/tools/build cargo install --locked --debug --no-default-features \
	  --config profile.dev.debug=false --root target/tools --version $(DENY_VERSION) cargo-deny
	@rm -rf target/tools/build
	@mv target/tools/bin/cargo-deny $(DENY)

supply: setup $(DENY) ## licences, sources and advisories of all crates (cargo-deny), and their texts in target/THIRD_PARTY_LICENSES.txt
	$(call step,licences$(comma) bans and sources of all crates)
	$(DENY) --locked --offline check licenses bans sources
	$(call step,advisories)
	@# The database is a git repository of GitHub, which is not always reachable.
	@if timeout 60 $(DENY) --locked fetch db 2>/dev/null; then $(DENY) --locked --offline check advisories; \
	else echo 'advisories: NOT CHECKED, because https://github.com/rustsec/advisory-db cannot be reached'; fi
	@mkdir -p target
	$(PYTHON) scripts/licences.py target/THIRD_PARTY_LICENSES.txt

faults: setup ## inject 600 faults: kills, damaged state, full disks, little memory, hostile files
	cargo build --locked --release
	$(PYTHON) scripts/fault_injection.py $(COMPILER) --faults 600

# The paths of this machine stay out of what is published.
REMAP := --remap-path-prefix=$(CURDIR)=updp-compile --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo

# `$(call wheel,PROFILE,FOLDER)` builds the program, then the module around it. Both have the same code, so the second build links only.
define wheel
	cargo build --locked --profile $(1) -p updp-compile
	$(PYTHON) scripts/wheel_files.py target/$(if $(filter dev,$(1)),debug,$(1))/updp-compile
	rm -rf $(2) && mkdir -p $(2)
	$(VENV)/bin/maturin build --locked --profile $(1) -m python/Cargo.toml --out $(2)
endef

wheel: export RUSTFLAGS = $(REMAP)
wheel: setup supply $(VENV)/.wheel ## the wheel with the program and the Python module, in dist/
	$(call step,build the wheel)
	$(call wheel,dist,dist)

wheel-check: setup $(VENV)/.wheel ## a wheel without optimization, installed into an empty environment and tested there
	$(call step,wheel)
	$(call wheel,dev,target/wheel)
	$(PYTHON) scripts/wheel_check.py target/wheel

dist: setup supply ## what is published: the program with its texts as an archive, in target/release-files
	RUSTFLAGS='$(REMAP)' cargo build --locked --profile dist --bin updp-compile
	@rm -rf $(RELEASE_FILES)
	$(PYTHON) scripts/release.py archive target/dist/updp-compile $(HOST) $(RELEASE_FILES)

portability: setup $(VENV)/.portability ## check that everything compiles for Windows and macOS; needs rustup
	$(VENV)/bin/python scripts/portability.py

package-check: ## pack every crate that is published
	cargo package $(PUBLISHED) --locked --offline --no-verify --allow-dirty

release-dry-run: dist package-check ## all of a release that can be done here, and checks of what it makes (docs/releasing.md)
	$(call step,versions$(comma) manifests and changelog)
	$(PYTHON) scripts/release.py check
	$(call step,checksums$(comma) contents and the program in the archive)
	@for wheel in dist/*.whl; do if [ -e "$$wheel" ]; then cp "$$wheel" $(RELEASE_FILES)/; fi; done
	$(PYTHON) scripts/release.py sums $(RELEASE_FILES)
	$(PYTHON) scripts/release.py verify $(RELEASE_FILES) --run $(HOST)
	cd $(RELEASE_FILES) && sha256sum -c SHA256SUMS

# Built once and without optimization, as cargo-deny is.
$(MDBOOK):
	$(call step,build mdBook $(MDBOOK_VERSION))
	CARGO_TARGET_DIR=$(CURDIR)/target/tools/build cargo install --locked --debug --no-default-features --features search \
	  --config profile.dev.debug=false --root target/tools --version $(MDBOOK_VERSION) mdbook
	@rm -rf target/tools/build
	@mv target/tools/bin/mdbook $(MDBOOK)

# The report of `make demo` where that ran; else a smaller one, with the images of the fixtures.
$(DEMO_REPORT):
	$(call step,make a report for the site)
	cargo build --locked --release
	@mkdir -p $(@D)
	$(COMPILER) prune fixtures/trained/fmnist_resnet.bn.onnx -o target/demo/site.onnx --data fixtures/fmnist_test_1000.npz \
	  --preprocess fashion-mnist --prune 3 --force --threads 1 --report $@

docs: tools $(MDBOOK) $(DEMO_REPORT) ## the documentation as a site in target/docs, every link checked
	$(PYTHON) scripts/docs_site.py $(MDBOOK) target/docs --report $(DEMO_REPORT)

# Where a wheel lies in dist/, the demo needs no Rust: the wheel and ONNX Runtime go into an environment of their own.
DEMO_WHEEL := $(firstword $(wildcard dist/updp_compile-*.whl))
ifeq ($(DEMO_WHEEL),)
DEMO_NEEDS := setup $(COMPILER)
DEMO_PROGRAM := $(COMPILER)
else
DEMO_NEEDS := .venv-demo/.ready
DEMO_PROGRAM := .venv-demo/bin/updp-compile
# The runtime of that environment is used.
demo: export ORT_DYLIB_PATH =
endif

.venv-demo/.ready: $(DEMO_WHEEL)
	$(call step,install $(DEMO_WHEEL))
	@rm -rf .venv-demo
	$(PYTHON) -m venv .venv-demo || { rm -rf .venv-demo; $(call apt_install,python3-venv); $(PYTHON) -m venv .venv-demo; }
	.venv-demo/bin/python -m pip --disable-pip-version-check install --quiet --only-binary :all: '$(DEMO_WHEEL)[ort]'
	@touch $@

.PHONY: $(COMPILER)
$(COMPILER):
	$(call step,build the compiler)
	cargo build --locked --release

demo: $(DEMO_NEEDS) $(FASHION_MNIST) ## compile a trained RepVGG, verify it on real images, measure both; prune blocks of a ResNet and train it
	@mkdir -p target/demo
	$(call step,compile the RepVGG trained on Fashion-MNIST)
	$(DEMO_PROGRAM) fixtures/trained/fmnist_repvgg.bn.onnx -o target/demo/repvgg.onnx
	$(call step,verify it on 1000 images of the test set)
	$(DEMO_PROGRAM) verify fixtures/trained/fmnist_repvgg.bn.onnx target/demo/repvgg.onnx --input-data fixtures/fmnist_test_1000.npz
	$(call step,measure the latency of both)
	$(DEMO_PROGRAM) bench fixtures/trained/fmnist_repvgg.bn.onnx target/demo/repvgg.onnx
	$(call step,find the blocks of a trained ResNet)
	$(DEMO_PROGRAM) inspect fixtures/trained/fmnist_resnet.bn.onnx
	$(call step,prune until it is 1.3 times as fast: fitted to training images and trained on them; judged by 10000 test images)
	$(DEMO_PROGRAM) fixtures/trained/fmnist_resnet.bn.onnx -o target/demo/resnet.onnx --data $(FASHION_MNIST)/train-images-idx3-ubyte.gz \
	  --val $(FASHION_MNIST)/t10k-images-idx3-ubyte.gz --preprocess fashion-mnist --images 2000 --batch 32 --speedup 1.3 --epochs 1 \
	  --report target/demo/resnet.html

cost-model: setup $(VENV)/.check ## hold the cost guard's decisions against ONNX Runtime's clock
	$(call step,build the compiler)
	cargo build --locked --release
	$(call step,measure)
	$(VENV)/bin/python scripts/cost_model.py $(COMPILER)

depth: setup $(VENV)/.check ## speed of full-size networks with pruned blocks; prints the table for docs/experiments/depth-speed.md
	cargo build --locked --release -p updp-compile -p updp-zoo
	$(VENV)/bin/python scripts/depth.py

prune-check: setup ## prune every block of the fixtures, alone and all together, each result verified
	cargo build --locked --release
	$(VENV)/bin/python scripts/prune_check.py --alone fixtures/exported/*.onnx fixtures/trained/*.onnx

$(FASHION_MNIST):
	$(call apt_install,dataset-fashion-mnist)

fit-table: setup $(VENV)/.check $(FASHION_MNIST) ## accuracy against pruned blocks on Fashion-MNIST; prints tables for docs/experiments/fit.md, draws docs/fit_fmnist.svg
	cargo build --locked --release
	rm -rf target/fit-table
	$(VENV)/bin/python scripts/fit_table.py $(COMPILER)

bench: setup $(VENV)/.bench ## compare speed and memory with onnxslim and onnxsim; prints tables for docs/experiments/exact-compilation.md
	$(call step,build the compiler and the model zoo)
	cargo build --locked --release -p updp-compile -p updp-zoo
	$(call step,write the full-size models)
	rm -rf target/bench-models
	$(ZOO) --out target/bench-models --dialect $(BENCH_DIALECT) $(BENCH_MODELS)
	$(call step,compare)
	$(VENV)/bin/python scripts/bench.py $(COMPILER) --models target/bench-models --runs $(BENCH_RUNS) --large target/bench --chain target/bench

corpus: setup $(VENV)/.check ## differential run over CORPUS (folders) and the backend tests of the onnx wheel
	$(call step,build the compiler)
	cargo build --locked --release
	$(call step,compile and compare every model)
	$(VENV)/bin/python scripts/corpus.py $(COMPILER) $(CORPUS) --onnx-backend --report target/corpus.json

models-check: setup $(VENV)/.check ## compile every file of ../shared/models, compare with the exporters' own outputs
	$(call step,build the compiler)
	cargo build --locked --release
	$(call step,compile and compare)
	$(VENV)/bin/python scripts/models_check.py $(COMPILER) ../shared/models

# The corpus grows in fuzz/corpus/TARGET, findings go to fuzz/artifacts/TARGET; what was fixed belongs into fixtures/fuzz.
fuzz: ## fuzz TARGET (decode, validate, compile, prune) for SECONDS; needs a nightly toolchain and cargo-fuzz
	@command -v cargo-fuzz >/dev/null || { echo 'cargo-fuzz is missing: cargo install cargo-fuzz' >&2; exit 1; }
	@mkdir -p fuzz/corpus/$(TARGET)
	@find fixtures -name '*.onnx' -size -20k -exec cp -n -t fuzz/corpus/$(TARGET) {} +
	CARGO_TARGET_DIR=$(CURDIR)/fuzz/target RUSTUP_TOOLCHAIN=nightly cargo fuzz run $(TARGET) -- \
		-max_total_time=$(SECONDS) -max_len=20000 -timeout=20 -rss_limit_mb=3000

clean: ## remove everything that was built or fetched into this folder
	rm -rf target $(VENV)
