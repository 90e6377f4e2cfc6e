# One target a thing that people do; the work is in scripts/, each of which runs alone too.

PYTHON := .venv/bin/python
BIN := .venv/bin
# One test process a core, each with one thread: more threads than cores make torch slower. Torch's float
# sums differ in their last bit between AVX2 and AVX512; the small-device kernels follow those of AVX2.
TEST_JOBS ?= 2
TESTS ?= tests

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/\1|\2/' \
	    | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: ## Make .venv with everything in it, system packages included (again: no-op)
	@scripts/setup.sh

.PHONY: build
build: setup ## Build libnestling, nestling-bench and the examples into build/native
	@scripts/build_native.sh

.PHONY: emulators
emulators: setup ## Install cross compilers and QEMU for the emulated devices
	@scripts/setup_emulators.sh

.PHONY: firmware
firmware: emulators ## Build the firmware of the emulated Cortex-M boards into build/firmware
	@scripts/build_firmware.sh

.PHONY: arm64
arm64: emulators ## Build the device side for 64-bit Arm Linux into build/arm64
	@scripts/build_arm64.sh

.PHONY: targets
targets: setup ## Install the compilers and simulators of all targets; tests of targets then use them
	@scripts/setup_targets.sh

.PHONY: test
test: ## Build, lint and run every test (what CI runs)
	@$(MAKE) --no-print-directory -j2 -Otarget build lint test-core firmware arm64
	@$(MAKE) --no-print-directory test-python

.PHONY: test-core
test-core: setup ## Run the C tests under AddressSanitizer and UBSan
	@scripts/test_core.sh

.PHONY: test-python
test-python: build firmware arm64 ## Run pytest; TESTS=tests/bundle runs one folder
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 $(BIN)/pytest -n $(TEST_JOBS) --dist loadfile $(TESTS)

.PHONY: demo
demo: build ## Train, export and run the digits demo; leaves build/demo
	$(BIN)/nestling demo --out build/demo

.PHONY: demo-devices
demo-devices: build firmware arm64 ## Run the digits on host, emulated arm64 and M55; leaves build/devices
	$(BIN)/nestling demo-devices --out build/devices

.PHONY: demo-targets
demo-targets: build targets ## Three networks on every target (hours; see its options); leaves build/targets
	$(BIN)/nestling demo-targets --out build/targets

.PHONY: demo-lm
demo-lm: build ## Generate with a path for every token, under every policy; leaves build/lm
	-@scripts/setup_llamacpp.sh # without it the demo leaves llama.cpp out and says so
	$(BIN)/nestling demo-lm --out build/lm

.PHONY: demo-experts
demo-experts: build ## Experts that do not fit into memory; tasks; steps that choose; leaves build/experts
	$(BIN)/nestling demo-experts --out build/experts

.PHONY: peers
peers: setup ## Make the environment in which bench runs LiteRT, apart from .venv
	@scripts/setup_peers.sh

.PHONY: bench
bench: build ## Measure every figure of the README; leaves build/bench.json
	-@scripts/setup_peers.sh # without it the bench leaves LiteRT out and says so
	$(BIN)/nestling bench --all --json build/bench.json

.PHONY: lint
lint: setup ## Check format, style and types of all sources
	@scripts/lint.sh

.PHONY: format
format: setup ## Format all sources
	@scripts/lint.sh --fix

.PHONY: clean
clean: ## Remove what was built; the environment stays
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
