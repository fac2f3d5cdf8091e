# Two commands: `make demo` trains, exports, samples and reports; `make test` checks the project.
# `make test-all` also runs the slow tests and the whole matrix of models, targets, precisions and backends.
# `make fuzz` is the long form of the tests of damaged files and kills.
# Needs Python 3.11 or newer, pip and make. Everything goes to .venv/ and out/.

PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.installed
DEMO   := out/demo

.PHONY: demo test test-all fuzz clean
.DELETE_ON_ERROR:

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	rm -rf $(DEMO)
	$(BIN)/dtrain run digits-unet --out $(DEMO)/train --set train.keep_checkpoints=1
	$(BIN)/dexport onnx $(DEMO)/train/digits-unet-*.pt -o $(DEMO)/bundle --trajectory-steps 250
	$(BIN)/dexport openvino $(DEMO)/bundle
	$(BIN)/drun --backend ort --steps 250 -n 64 --batch 64 --bundle $(DEMO)/bundle --out $(DEMO)/samples \
	  --trajectory $(DEMO)/denoising.webp
	cp $(DEMO)/samples/grid.png $(DEMO)/grid.png
	$(BIN)/drun --backend ort --steps 250 -n 512 --batch 64 --bundle $(DEMO)/bundle --out $(DEMO)/samples
	$(BIN)/drun check --all $(DEMO)/bundle
	$(BIN)/dbench latency $(DEMO)/bundle --artifact onnx-fp32 --checkpoint $(DEMO)/train/digits-unet-*.pt --out $(DEMO)/results
	$(BIN)/dbench quality $(DEMO)/samples --out $(DEMO)/results
	$(BIN)/dbench report $(DEMO)/report.html --run $(DEMO)/train --bundle $(DEMO)/bundle --samples $(DEMO)/samples \
	  --results $(DEMO)/results --animation $(DEMO)/denoising.webp
	@echo
	@echo "Look at $(DEMO)/report.html, $(DEMO)/grid.png and $(DEMO)/denoising.webp"

test: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 2 --dist worksteal -m "not matrix and not slow"

test-all: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz --out out/fuzz

clean:
	rm -rf .venv out
