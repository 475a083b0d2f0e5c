# Every verb a developer needs. `make help` lists them; each works alone on a fresh machine with Python 3.11 or 3.12.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first interpreter that runs and is of a supported version.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
# Of the environment's Python, or of the one that will make it.
LOCK = requirements/py$(shell p=$(BIN)/python; [ -x $$p ] || p=$(PYTHON); \
	$$p -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
PACKAGES := wetread_preprocess wetread_postprocess wetread_embedded wetread_client wetread_gateway wetread_models wetread_release wetread_bench wetread_loadtest
ADAPTERS := preprocess_backend/model.py postprocess_backend/model.py embedded/backends/onnxruntime/model.py
# The PACS, its tools and the validators; PostgreSQL as the store of several gateways; strace for the order of fsyncs.
SYSTEM_PACKAGES := orthanc orthanc-dicomweb dcmtk dicom3tools postgresql strace etcd-server prometheus
# Its tests need those of setup-system, too.
IMAGE_PACKAGES := buildah crun debootstrap
PIXELMED_PACKAGES := libpixelmed-java default-jre-headless
# Every process that a test starts would compile our packages anew.
unexport PYTHONDONTWRITEBYTECODE
export WETREAD_DATA ?= $(wildcard $(abspath ../shared/data))
# Errors alone: what pip says of a user's own package index is no matter of this project.
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check
installed = printf 'set-up: %s holds %s packages, %s\n' $(VENV) \
  "$$(ls -d $(VENV)/lib/python3*/site-packages/*.dist-info | wc -l)" "$$(du -sh $(VENV) | cut -f1)"
debian = echo "set-up: Debian's $(1)"; mkdir -p build; { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends $(1); } > build/apt.log 2>&1 || { cat build/apt.log; exit 1; }

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.ready ## Virtual environment, locked packages, and a check that this machine can serve

# Locks are complete: pip need not resolve them. `pip check` says whether they fit together.
$(VENV)/.ready: pyproject.toml requirements/py311.txt requirements/py312.txt
	@test -n "$(PYTHON)" || { echo "Wetread needs Python 3.11 or 3.12 on PATH (Debian: apt-get install python3.11-venv), or make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "set-up: $$(wc -l < $(LOCK)) Python packages of $(LOCK) into $(VENV) (about 2 GB, some minutes)"
	@$(PIP) --no-deps -r $(LOCK)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@mkdir -p build; $(BIN)/python -m pip check > build/pip-check.log || { cat build/pip-check.log; exit 1; }
	@$(BIN)/python -m wetread_embedded.preflight
	@$(call installed)
	@touch $@

.PHONY: setup-models
setup-models: $(VENV)/.models ## The models extra: torch (CPU build) and what training needs

$(VENV)/.models: $(VENV)/.ready requirements/models.txt
	@echo "set-up: the models extra, with PyTorch for the CPU (about 1 GB)"
	@$(PIP) -r requirements/models.txt -c $(LOCK)
	@$(call installed)
	@touch $@

.PHONY: setup-tensorrt
setup-tensorrt: $(VENV)/.tensorrt ## NVIDIA's ONNX parser and engine compiler for any CPU (150 MB; x86_64)

$(VENV)/.tensorrt: $(VENV)/.ready requirements/tensorrt.txt
	@echo "set-up: NVIDIA's ONNX parser and engine compiler (150 MB)"
	@$(PIP) --no-deps -r requirements/tensorrt.txt
	@$(PIP) --no-deps --upgrade \
	  --target build/tensorrt-stubs tensorrt-stubs==10.13.0.35.1 # beside the environment: a folder tensorrt would shadow
	@$(call installed)
	@touch $@

.PHONY: setup-system
setup-system: ## Debian packages of the system tests (root); what lacks them is skipped, saying so
	@$(call debian,$(SYSTEM_PACKAGES))

.PHONY: setup-pixelmed
setup-pixelmed: ## Debian packages of PixelMed's validator (root)
	@$(call debian,$(PIXELMED_PACKAGES))

.PHONY: setup-images
setup-images: ## Debian's buildah and debootstrap, for container images without an engine (root)
	@$(call debian,$(IMAGE_PACKAGES))

.PHONY: images
images: setup ## Build the images gateway, release and all-in-one to build/images (root, needs setup-images; 10 minutes)
	$(BIN)/python images/build.py

.PHONY: test-images
test-images: images ## The built images, run read-only as their own user: films in, reports out (root)
	$(BIN)/python -m pytest -q tests/images

.PHONY: measure-images
measure-images: images ## Size, layers, cold start and memory of the images, to docs/benchmarks/images.json (root, idle)
	$(BIN)/python images/measure.py

.PHONY: lint-images
lint-images: setup build/checkov/.ready ## hadolint and checkov on the Dockerfiles, checkov on the manifests
	$(BIN)/hadolint images/*/Dockerfile
	build/checkov/bin/checkov --config-file images/checkov.yaml

build/checkov/.ready: requirements/checkov.txt
	$(PYTHON) -m venv build/checkov # of its own: it pins what the gateway needs newer
	build/checkov/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/checkov.txt
	@touch $@

.PHONY: sbom
sbom: setup ## A bill of materials of each built image, as CycloneDX, to build/images (root)
	$(BIN)/python images/sbom.py

.PHONY: demo
demo: setup ## Serve, read synthetic films, print the table, write heatmap overlays to build/demo
	$(BIN)/python -m wetread_bench.demo

.PHONY: demo-pacs
demo-pacs: setup ## The whole trip: storescu sends films, report and capture appear in Orthanc (needs setup-system)
	$(BIN)/python -m wetread_bench.demo_pacs

.PHONY: serve
serve: setup ## Serve the pipelines on 127.0.0.1: HTTP 8000, gRPC 8001, metrics 8002
	$(BIN)/wetread serve

build/kernels/.ready: $(VENV)/.ready $(wildcard preprocess_backend/wetread_preprocess/volumes/*.py)
	@echo "set-up: the kernels of CT and MR volumes are compiled (half a minute)"
	@NUMBA_CACHE_DIR=$(abspath build/kernels) $(BIN)/python -c "import wetread_preprocess.volumes, \
	  wetread_preprocess.volumes.compiled as compiled; compiled.compile_kernels()"
	@touch $@

# Each tier of tests takes pytest's words in ARGS: make check ARGS="-x tests/unit/test_gateway_rules.py".
# Files are dealt out whole, long ones first. Tests wait at times, so there is one worker more than cores.
WORKERS := $(shell expr $$(nproc) + 1)
# One thread a process: workers share the cores already.
PYTEST = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q --dist loadgroup --no-loadscope-reorder

UNIT := tests/unit tests/contract tests/test_architecture.py

.PHONY: check
check: setup ## Lint, types and unit tests, in 90 seconds: before every commit
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types unit

.PHONY: unit
unit: setup build/kernels/.ready ## The unit tests alone
	$(PYTEST) -n $(WORKERS) -m "not triton and not pacs and not slow and not full" $(UNIT) $(ARGS)

.PHONY: test
test: setup-models setup-tensorrt build/kernels/.ready ## Every promise at its smallest size, with the real servers, in 8 minutes
	$(PYTEST) -n $(WORKERS) -m "not full" $(ARGS)

# A shard that has passed on this state of the files is not run again, so that a run that was stopped goes on.
STATE = $(shell git rev-parse --short HEAD)$(shell git diff --quiet HEAD || echo -$$(git diff HEAD | sha1sum | cut -c1-8))
FULL = build/test-full/$(STATE)
SHARDS := unit triton pacs kills images pixelmed
unit_TESTS := $(UNIT)
triton_TESTS := tests/triton tests/k8s -m "not kills"
pacs_TESTS := tests/pacs -m "not kills and not pixelmed"
kills_TESTS := tests/triton tests/pacs -m kills
images_TESTS := tests/images
pixelmed_TESTS := tests/pacs -m pixelmed

.PHONY: test-full
test-full: setup-models setup-tensorrt build/kernels/.ready ## Full counts of everything, hours: a night, a release; goes on where it was stopped
	@$(MAKE) --no-print-directory $(SHARDS:%=$(FULL)/%.passed)

$(FULL)/images.passed: images

$(FULL)/%.passed:
	@mkdir -p $(@D)
	WETREAD_TIER=full $(PYTEST) -n $(WORKERS) $($*_TESTS) -o timeout=3000 --junitxml=$(@D)/$*.xml $(ARGS)
	@touch $@

.PHONY: coverage
coverage: setup-models setup-tensorrt build/kernels/.ready ## Share of lines that make test runs, per package; processes that it starts count, too
	@rm -rf build/coverage && mkdir -p build/coverage
	$(PYTEST) -n $(WORKERS) -m "not full" --cov --cov-report= -o timeout=900 $(ARGS)
	$(BIN)/python tests/coverage_by_package.py build/coverage/data*

.PHONY: test-dicom-validator
test-dicom-validator: setup ## The demo's reports through dicom-validator (needs the internet: it fetches the standard)
	test -d build/demo-pacs || $(BIN)/python -m wetread_bench.demo_pacs
	$(BIN)/python -m venv build/dicom-validator
	build/dicom-validator/bin/python -m pip install --quiet --disable-pip-version-check dicom-validator
	build/dicom-validator/bin/validate_iods build/demo-pacs/*.dcm

.PHONY: conformance
conformance: setup ## Write the conformance statements and the table of settings from the code's own tables
	$(BIN)/python -m wetread_gateway.conformance docs
	$(BIN)/python -m wetread_gateway.config.reference docs/gateway-settings.md

.PHONY: lint
lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: setup ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: setup ## mypy, strict
	$(BIN)/mypy $(PACKAGES:%=-p %)
	@for adapter in $(ADAPTERS); do $(BIN)/mypy $$adapter || exit 1; done
	MYPYPATH=images $(BIN)/mypy images/*.py images/all-in-one/start.py

.PHONY: bench
bench: setup ## Benchmarks on this machine, to build/bench (keep it idle)
	$(BIN)/wetread bench films

.PHONY: bench-gateway
bench-gateway: setup ## The gateway's benchmark and the chaos run, half an hour, to build/bench (needs setup-system)
	$(BIN)/wetread bench intake
	$(BIN)/wetread bench chaos

.PHONY: bench-swap
bench-swap: setup ## Releases come and go under load, some of them broken, to build/bench/swap.json (keep it idle)
	$(BIN)/wetread bench swap

.PHONY: bench-engines
bench-engines: setup ## The classifier on every engine and precision that runs here, to build/bench/engines.json
	$(BIN)/wetread bench engines

.PHONY: bench-volumes
bench-volumes: setup-models ## CT and MR series against scipy, SimpleITK, scikit-image and MONAI, to build/bench/volumes.json
	$(BIN)/wetread bench volumes --with-monai --rounds 3

.PHONY: loadtest
loadtest: setup ## A hospital's day in a minute with locust on a stack of its own, to build/loadtest (needs setup-system)
	$(BIN)/python -m wetread_bench.load_stack

.PHONY: bench-load
bench-load: setup ## Capacity of one core, ten minutes at 80 % of it, two at 300 %, to build/bench/load.json (keep it idle)
	$(BIN)/wetread bench load

.PHONY: bench-capacity
bench-capacity: setup ## What one core reads, to build/bench/capacity.json (keep it idle)
	$(BIN)/wetread bench capacity

.PHONY: simulate
simulate: setup ## The peak day against the autoscaler that ships, and against one that sees CPU alone
	$(BIN)/wetread simulate hpa --naive --step 10

.PHONY: monitoring
monitoring: setup ## Generate the objectives' rules and the dashboards
	cd k8s/components/monitoring && ../../../$(BIN)/python slo.py && ../../../$(BIN)/python dashboards.py

.PHONY: configs
configs: setup ## Generate every config.pbtxt and draft.json that ships
	$(BIN)/python -m wetread_release.shipped_configs

.PHONY: train
train: setup-models ## Train the reference classifier from $$WETREAD_DATA (about an hour on two cores)
	$(BIN)/wetread model train

.PHONY: lock
lock: setup ## Resolve the locked requirements anew (needs uv)
	@for v in 11 12; do \
	  uv pip compile --quiet --python-version 3.$$v --no-header --no-emit-index-url --no-emit-find-links --no-annotate \
	    --extra embedded --extra client --extra gateway --extra release --extra bench --extra dev pyproject.toml -o requirements/py3$$v.txt; \
	  uv pip compile --quiet --python-version 3.$$v --no-header --no-emit-index-url --no-emit-find-links --no-annotate \
	    --extra preprocess pyproject.toml -o requirements/preprocess-py3$$v.txt; done
	@for image in "gateway --extra gateway" "release --extra release --extra batch --extra s3" \
	    "all-in-one --extra embedded --extra gateway --extra batch"; do set -- $$image; name=$$1; shift; \
	  uv pip compile --quiet --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --no-annotate \
	    "$$@" pyproject.toml -c requirements/py311.txt -o requirements/$$name-py311.txt; done
	@echo checkov | uv pip compile --quiet --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
	  --no-annotate - -o requirements/checkov.txt

.PHONY: clean
clean: ## Remove the virtual environment and everything built
	rm -rf $(VENV) build
