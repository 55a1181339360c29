# AWS: the checks of template.yaml and the builds of what it names. Part of the root Makefile, so that `sam build`
# typed by hand finds the targets build-<LogicalId> too: the template sends it here (ContextPath, WorkingDirectory).

# Only what the commands below need of the tools' own environment; builds work with any Python that has pip.
BUILD_PYTHON ?= $(firstword $(wildcard .venv-aws/bin/python) $(PYTHON))
BUILD_DIR ?= .aws-sam/build
# `lambda` (the runtime's own wheels, on whatever machine) or `host` (this machine's, to try the artefacts here).
FAREBOX_BUILD_PLATFORM ?= lambda
# The operator's configuration; it travels in the layer.
FAREBOX_TOML ?= farebox.toml

SAM := .venv-aws/bin/sam
FUNCTION_TARGETS := build-ProxyFunction build-KeysFunction build-BillingFunction build-ScheduleFunction
LAYER_TARGETS := build-FareboxLayer build-TiktokenLayer

.PHONY: template build build-host artefacts $(FUNCTION_TARGETS) $(LAYER_TARGETS)

template: .venv-aws/.ready  ## Checks template.yaml: SAM, cfn-lint on it and on what it becomes, our own rules
	$(SAM) validate --lint
	.venv-aws/bin/python scripts/transform_template.py template.yaml build/template.json
	.venv-aws/bin/cfn-lint template.yaml build/template.json

build: .venv-aws/.ready node_modules/.package-lock.json  ## Builds the artefacts for Lambda, without Docker
	$(SAM) build --build-dir $(BUILD_DIR)
	@du -sh $(BUILD_DIR)/*/ | sort -k2

build-host:  ## Builds the same artefacts with this machine's wheels, to try them here
	$(MAKE) build FAREBOX_BUILD_PLATFORM=host BUILD_DIR=build/host

artefacts: .venv/.dev .venv-aws/.ready  ## Builds the artefacts for both and runs each one's door
	$(BIN)/python -m pytest tests/integration/test_artefacts.py

# ---- What `sam build` calls, with ARTIFACTS_DIR set -------------------------------------------------------------

# A lock is complete, and pip would judge the markers of its packages' own requirements by the Python that it runs on.
PIP_INSTALL = $(BUILD_PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
  --require-hashes --only-binary=:all: $(WHEELS_$(FAREBOX_BUILD_PLATFORM))
WHEELS_host :=
WHEELS_lambda := --implementation cp --python-version 3.13 \
  --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64

# install-wheels LOCK,FOLDER. Console scripts are for people, not for Lambda.
define install-wheels
$(PIP_INSTALL) --requirement requirements/$(1).txt --target "$(2)"
rm -rf "$(2)/bin"
endef

# compile PLACE: byte code, for Lambda's folders are read-only and each cold start would compile everything anew.
# Unchecked, since unpacking changes the times of files. Only by the runtime's own minor: others' is ignored there.
# A shim on PATH that starts no such Python does not count, so each is asked.
define compile
@[ "$(FAREBOX_BUILD_PLATFORM)" = host ] || { \
  for python in python3.13 "$(BUILD_PYTHON)"; do \
    "$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || continue; \
    exec "$$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash \
      -s "$(ARTIFACTS_DIR)" -p $(1) "$(ARTIFACTS_DIR)"; \
  done; \
  echo "$@: no python3.13 here, so no byte code: cold starts will take longer" >&2; }
endef

$(FUNCTION_TARGETS) $(LAYER_TARGETS): | artifacts-dir

.PHONY: artifacts-dir
artifacts-dir:
	@: "$${ARTIFACTS_DIR:?is set by sam build; run make build}"

build-ProxyFunction:
	$(call install-wheels,proxy,$(ARTIFACTS_DIR))
	install -m 644 functions/proxy/app.py "$(ARTIFACTS_DIR)"
	install -m 755 functions/proxy/run.sh "$(ARTIFACTS_DIR)"
	$(call compile,/var/task)

build-KeysFunction: DOOR := keys
build-BillingFunction: DOOR := billing
build-ScheduleFunction: DOOR := schedule
build-KeysFunction build-BillingFunction build-ScheduleFunction:
	$(call install-wheels,web,$(ARTIFACTS_DIR))
	install -m 644 functions/$(DOOR)/app.py "$(ARTIFACTS_DIR)"
	$(call compile,/var/task)

# What only `farebox serve` needs stays at home; so does anything that could answer with invented text.
NOT_SHIPPED := --exclude __pycache__ --exclude farebox/cli.py --exclude farebox/commands --exclude farebox/local

build-FareboxLayer:
	mkdir -p "$(ARTIFACTS_DIR)/python"
	tar -C layers/farebox $(NOT_SHIPPED) -cf - farebox | tar -C "$(ARTIFACTS_DIR)/python" -xf -
	@if [ -f "$(FAREBOX_TOML)" ]; then install -m 644 "$(FAREBOX_TOML)" "$(ARTIFACTS_DIR)/farebox.toml"; else \
	  echo '# There was no farebox.toml when this was built: defaults, and no channel.' >"$(ARTIFACTS_DIR)/farebox.toml"; \
	  echo "$@: no $(FAREBOX_TOML): built without a channel" >&2; fi
	@[ ! -f "$(FAREBOX_TOML)" ] || $(BUILD_PYTHON) scripts/price_lists.py "$(FAREBOX_TOML)" "$(ARTIFACTS_DIR)"
	$(call compile,/opt)

# The rank files are held against the tiktoken that they travel with, not one that this machine may have.
build-TiktokenLayer: node_modules/.package-lock.json
	$(call install-wheels,tiktoken,$(ARTIFACTS_DIR)/python)
	PYTHONPATH="$(ARTIFACTS_DIR)/python" $(BUILD_PYTHON) layers/tiktoken/build.py --out "$(ARTIFACTS_DIR)"
	$(call compile,/opt)
