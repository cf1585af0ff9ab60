# Everything that is done with this repository, one target each. `swift build` and `swift test` work
# without any of it once the packages of scripts/setup.sh are installed.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

SWIFT ?= swift
# Of the package; the README, the changelog and moriep.pc say the same.
VERSION := 0.1.0
# Where make install puts things; DESTDIR goes before it.
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
# A mori-ep that was built before, to be installed; else make install builds one for release.
PROGRAM ?=
# make test-package PACKAGE_ARGS=--release installs what make install builds, which takes minutes more.
PACKAGE_ARGS ?=
# The path below which the pages of make docs will be served: make docs DOCS_BASE=MoriEP.
DOCS_BASE ?=
# make test-api API_ARGS=--write stores the public API as it is; API_BASELINE is a tag to compare with.
API_ARGS ?=
API_BASELINE ?=
# Passed on as they are: make bench BENCH_ARGS="--ranks 4", make test TEST_ARGS="--filter Dispatch".
BENCH_ARGS ?=
TEST_ARGS ?=
PEERS_ARGS ?=
SCALING_ARGS ?=
SERVE_ARGS ?=
# What they measure goes there; with PLOTS=docs/measured into the documentation.
PLOTS ?= .build/measured
# Debian's Python, which has Debian's PyTorch and matplotlib.
PYTHON ?= /usr/bin/python3
# Words that choose checks of launchers: make test-launchers LAUNCHERS=srun.
LAUNCHERS ?=
# Words that choose variants of models: make test-model MODEL_ARGS="-v Ring".
MODEL_ARGS ?=
# How long worlds come and go, which come, and how many operators.
SOAK_SECONDS ?= 3600
SOAK_SEED ?= 1
LIFETIMES ?= 10000
SOAK_SCHEDULES ?= 100000
# How long each parser is fuzzed, and where inputs are kept that reach something new.
SECONDS ?= 60
FUZZ_CORPUS ?= .build-fuzz/corpus
# The suites that run under a sanitizer: a regular expression over their names.
SANITIZED ?= MoriDeviceTests|SymmetricMemoryTests|/(IntraNode|Launch|Round|Overflow|Graph|Disagreement|Failure|Lifetime|InterNodeRound|InterNodeSchedule|InterNodeFailure|SplitPhase|UniqueIDWorld|Numerics|Recovery|Deadline|Close|Metrics)Tests
SANITIZED_TESTS := MoriDeviceTests MoriShmemTests MoriEPTests

# The schedules of test-faults.
SCHEDULES ?= 1000
SEED ?= 1

SWIFT_FOLDERS := $(wildcard Sources Tests Benchmarks Examples)
CXX_FILES = $(shell find Kernels Sources Benchmarks Examples/*/Sources Tests/Emulator Tests/Packaging Tests/Primitives -type f \( -name '*.h' -o -name '*.c' -o -name '*.cpp' \))

.PHONY: help setup build test bench bench-instructions bench-peers bench-scaling model example \
        serve example-server \
        test-tsan test-asan test-mutants test-races test-faults test-model test-soak fuzz \
        test-launchers test-rdma lint format kernels kernels-nvidia test-isa emulator test-emulated \
        hardware-check docs test-api test-package install uninstall clean distclean

help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' \
	    $(firstword $(MAKEFILE_LIST))

setup: ## Install the packages that the build needs; nothing when they are there.
	@scripts/setup.sh build

build: setup ## Build everything, for debugging.
	$(SWIFT) build

test: setup ## Run all tests on the host device.
	$(SWIFT) test $(TEST_ARGS)

bench: setup ## Eight ranks dispatch and combine DeepSeek-V3's shape; options in BENCH_ARGS.
	$(SWIFT) run -c release bench-dispatch-combine $(BENCH_ARGS)

bench-instructions: ## Count the instructions of a round's parts; more than stored fails.
	@scripts/setup.sh build instructions
	$(SWIFT) build -c release --product bench-instructions
	@scripts/check-instructions.py

# One driver runs MoriEP, Open MPI and PyTorch's gloo in turn, on the same rows.
bench-peers: ## Measure beside Open MPI and PyTorch's gloo; options in PEERS_ARGS (--help).
	@scripts/setup.sh build peers
	$(SWIFT) build -c release --product bench-dispatch-combine
	@mkdir -p .build/peers
	# Products are rounded before they are added, as all systems and the oracle do it.
	mpicxx -std=c++17 -O3 -march=native -ffp-contract=off -DOMPI_SKIP_MPICXX -Wall -Wextra -o .build/peers/peer-mpi \
	    Benchmarks/Peers/MPI/main.cpp
	$(PYTHON) Benchmarks/Peers/measure.py --json $(PLOTS)/peers.json $(PEERS_ARGS)
	$(PYTHON) Benchmarks/Peers/plot.py $(PLOTS)/peers.json $(PLOTS)

bench-scaling: ## Measure as ranks, tokens, experts and top-k grow; options in SCALING_ARGS (--help).
	@scripts/setup.sh build peers
	$(SWIFT) build -c release --product bench-dispatch-combine
	$(PYTHON) Benchmarks/Scaling/measure.py --json $(PLOTS)/scaling.json $(SCALING_ARGS)
	$(PYTHON) Benchmarks/Scaling/plot.py $(PLOTS)/scaling.json $(PLOTS)

model: ## Print the model of docs/performance.md: EP8 to EP256 on MI300X and 400 Gb/s NICs.
	@scripts/setup.sh model
	@$(PYTHON) Benchmarks/Model/model.py

# A package of its own, as a user's is; alone it is eight ranks in one process, then one in each.
example: setup ## Run the guide's complete example: as one process, then as one for each rank.
	$(SWIFT) build --package-path Examples/ComingFromPython \
	    --scratch-path $(CURDIR)/.build-examples
	.build-examples/debug/ComingFromPython
	$(SWIFT) run mori-ep launch -n 8 -- .build-examples/debug/ComingFromPython

# A package of its own too, with its own build folder; optimized, for a model on a CPU.
SERVER = $(SWIFT) build --package-path Examples/MoEServer --scratch-path $(CURDIR)/.build-server \
    -c release --product moe-server

serve: setup ## Serve the example's mixture-of-experts model at port 8080; options in SERVE_ARGS.
	$(SERVER)
	.build-server/release/moe-server serve --model Examples/MoEServer/Model/model.safetensors \
	    $(SERVE_ARGS)

example-server: ## Check that model and its server: ranks, clients, load, a killed rank, the page.
	@SWIFT="$(SWIFT)" SCRATCH="$(CURDIR)/.build-server" Examples/MoEServer/check.sh

# Separate build folders, so that the ordinary build stays as it is; MORI_EP_TESTS is which test targets
# they have (Package.swift). One thread at a time runs what the tests of primitives are about.
test-tsan: setup ## Run the suites that match SANITIZED under ThreadSanitizer.
	MORI_EP_TESTS='$(SANITIZED_TESTS)' $(SWIFT) test --sanitize=thread --scratch-path .build-tsan \
	    --filter '$(SANITIZED)' --skip 'Primitive(Number)?Tests'

# Without XCTest: it leaks a few bytes of its own, which would fail the run. And without the schedules of
# late writes, which are long: ThreadSanitizer runs them.
test-asan: setup ## Run the suites that match SANITIZED under AddressSanitizer.
	MORI_EP_TESTS='$(SANITIZED_TESTS)' $(SWIFT) test --disable-xctest --sanitize=address \
	    --scratch-path .build-asan --filter '$(SANITIZED)' --skip InterNodeScheduleTests

# One build folder for all that needs the trait Checked.
# The kernels are compiled as for ThreadSanitizer, whose library is not linked: the race checker
# takes its place (Kernels/Runtime/Host/Checked/Races.h).
CHECKED_TEST = MORI_EP_TESTS=MoriCheckedTests $(SWIFT) test --traits Checked,RDMA -Xcxx -fsanitize=thread \
    --scratch-path .build-checked --disable-xctest

test-mutants: setup ## Switch on seeded mistakes in the kernels, one by one; fails if one survives.
	$(CHECKED_TEST) --filter CheckedTests.MutantTests

test-races: setup ## Hold every access of symmetric memory against all others, by the rules of GPUs.
	$(CHECKED_TEST) --filter CheckedTests.RaceTests

# A schedule takes about 70 ms; again: SCHEDULES=1 SEED=17.
test-faults: setup ## Run seeded schedules of faults, SCHEDULES of them from SEED on.
	SCHEDULES=$(SCHEDULES) SEED=$(SEED) $(CHECKED_TEST) --filter 'CheckedTests.(FaultTests|AllocationTests)'

# Searches the whole state space of each, so that what it says holds for every interleaving.
test-model: ## Verify the models of the protocol in Tests/Models with spin.
	@scripts/setup.sh models
	@scripts/check-models.py $(MODEL_ARGS)

# An hour of worlds and one of faults, unless: make test-soak SOAK_SECONDS=600 SOAK_SCHEDULES=5000. So many
# schedules are worth a build in release, in which one takes a sixth of the processor time.
test-soak: setup ## Worlds that come and go, 10,000 operators, 100,000 schedules of faults; nothing may grow.
	TEST_SOAK_SECONDS=$(SOAK_SECONDS) TEST_SEED=$(SOAK_SEED) TEST_LIFETIMES=$(LIFETIMES) \
	    $(SWIFT) test --filter SoakTests
	SCHEDULES=$(SOAK_SCHEDULES) SEED=$(SOAK_SEED) $(CHECKED_TEST) -c release -Xswiftc -enable-testing \
	    --filter CheckedTests.FaultTests

fuzz: setup ## Feed made-up bytes to what ranks parse from outside, SECONDS for each parser.
	MORI_EP_FUZZ=1 $(SWIFT) build --sanitize fuzzer --scratch-path .build-fuzz --product mori-ep-fuzz
	@scripts/fuzz.sh $(SECONDS) $(FUZZ_CORPUS)

# The programs as `make test` builds them.
test-launchers: ## Run ranks under mpirun, torchrun's variables, Slurm and mori-ep launch.
	@scripts/setup.sh build launchers
	$(SWIFT) build --product bench-dispatch-combine
	$(SWIFT) build --product mori-ep
	@python3 -B Tests/Launchers/launchers.py .build/debug $(LAUNCHERS)

test-rdma: ## Run ranks on two virtual machines over real RDMA verbs; skipped without qemu.
	@Tests/Lab/run.sh

lint: ## Check form and layering of all sources.
	@scripts/setup.sh lint
	@scripts/lint.sh

format: ## Bring all sources into form.
	@scripts/setup.sh lint
	$(SWIFT) format --in-place --parallel --recursive $(SWIFT_FOLDERS) Package.swift
	clang-format-19 -i $(CXX_FILES)

kernels: ## Build .build/kernels/libmoriep_amd.so.
	@scripts/setup.sh kernels
	@scripts/build-kernels.sh amd

kernels-nvidia: ## Build .build/kernels/libmoriep_nvidia.so.
	@scripts/setup.sh nvidia
	@scripts/build-kernels.sh nvidia

test-isa: kernels ## Check the machine code of the AMD kernels; its table is docs/kernels-isa.md.
	@scripts/check-isa.py

# The emulator wants to know what instructions do: from a checkout of tinygrad, by TINYGRAD.
emulator: kernels ## Build the emulated device's library; with TINYGRAD also what it executes by.
	@$(if $(TINYGRAD),scripts/setup.sh emulator)
	@Tests/Emulator/build.sh $(if $(TINYGRAD),translate,)

# Primitives first: what they get wrong, nothing above them gets right.
test-emulated: setup emulator ## Execute the AMD kernels' gfx942 code and compare with the oracle.
	@Tests/Emulator/test.sh $(TEST_ARGS)

hardware-check: setup ## On a machine with GPUs and NICs: all that could not be run without them.
	@scripts/hardware-check.sh

docs: ## Build the documentation into .build/docs; what has none, and each warning, is an error.
	@scripts/setup.sh build docs
	@scripts/docs.sh $(DOCS_BASE)

# SwiftPM's own check builds the tag first, which takes minutes: make test-api API_BASELINE=0.1.0.
test-api: ## Compare the public API with docs/api.txt; with API_BASELINE, with a tag, by SwiftPM.
	@scripts/setup.sh build docs
	@scripts/symbol-graph.sh .build/symbol-graph
	@scripts/check-api.py .build/symbol-graph $(API_ARGS)
	$(if $(API_BASELINE),$(SWIFT) package diagnose-api-breaking-changes $(API_BASELINE))

test-package: ## Install, use and remove what was installed; build a package that depends on this one.
	@scripts/setup.sh build package
	@scripts/test-package.sh $(VERSION) $(PACKAGE_ARGS)

install: ## Install the command line, the C ABI and the kernels that were built, below PREFIX.
	@scripts/setup.sh build
	@DESTDIR="$(DESTDIR)" scripts/install.sh install "$(PREFIX)" "$(LIBDIR)" "$(VERSION)" "$(PROGRAM)"

uninstall: ## Remove what make install has put below PREFIX.
	@DESTDIR="$(DESTDIR)" scripts/install.sh uninstall "$(PREFIX)" "$(LIBDIR)" "$(VERSION)"

clean: ## Remove what was built.
	rm -rf .build .build-examples .build-server .build-tsan .build-asan .build-checked .build-fuzz \
	    .build-package

distclean: clean ## Remove downloaded tools as well.
	rm -rf .cache
