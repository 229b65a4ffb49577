# Two commands set everything up on a fresh machine: `make demo` and `make test`. Both build the same .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test tests test-long check format bench bench-speed bench-recovery bench-audit bench-audit-cost bench-scan-cost bench-team bench-coverage bench-bridge kill fuzz bad-inputs injection full-disk bench-onnx bit-flips soak bench-dicom clean fuzz-http bench-pretrained bench-drift
.DEFAULT_GOAL := help

help:
	@echo "make demo    environment, install, and the main job on synthetic images (about two minutes to run)"
	@echo "make test    types and every test of the ordinary run (5 to 12 minutes on two cores)"
	@echo "make test-long  the few tests that take longest"
	@echo "make check   lint, format, types"
	@echo "make bench   the benchmarks; needs the real images in ../shared"
	@echo "make bench-speed  training, prediction and decoding beside what else one would use (RIVALS=PYTHON); half an hour"
	@echo "make bench-audit  faults planted in phantoms: does the audit find them, and keep quiet without; about an hour"
	@echo "make bench-recovery  patients recovered from phantoms and from the real slices"
	@echo "make bench-audit-cost  seconds and memory of an audit, from 1,000 to 100,000 images, and how they grow"
	@echo "make bench-scan-cost  seconds, memory and disk of each image that is read; a minute"
	@echo "make bench-team  one process beside two, and what a killed one costs; two minutes"
	@echo "make bench-coverage  whether intervals hold the truth as often as they say; about ten minutes"
	@echo "make bench-drift  how often batches of phantoms, changed or not, are called drifted; about five minutes"
	@echo "make bench-bridge  DICOM images in over loopback, reports and overlays out"
	@echo "make bench-onnx  exported models beside their own: scores and speed; needs ../shared"
	@echo "make bench-pretrained  what the weights inside are worth on few patients; an hour; needs ../shared"
	@echo "make bit-flips  1,000 flipped bits in a model's files: is each found"
	@echo "make bench-dicom  the DICOM files that ship with pydicom: read, refused, and equal to another reader"
	@echo "make fuzz-http  20,480 malformed requests to the service, then schemathesis (extra fuzz)"
	@echo "make soak    10,000 valid and 2,000 hostile requests to the service, 20 at a time"
	@echo "make kill    200 trainings killed at random and resumed; about twenty minutes"
	@echo "make bad-inputs  every named bad input through every entry point; about ten minutes"
	@echo "make injection   hostile texts in every string that is printed; needs Chromium"
	@echo "make full-disk   a full disk at each file of each command; about ten minutes"
	@echo "make fuzz    100,000 spoilt files through the readers; about ten minutes"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/plainfilm demo --output demo --overwrite

test: $(READY)
	$(MAKE) --no-print-directory --jobs 2 check tests

tests: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not long"

test-long: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m long

check: $(READY)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: $(READY)
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.alzheimer ../shared/data

# RIVALS=../venv-rivals/bin/python names an interpreter with fastai and tensorflow; without it they are left out.
bench-speed: $(READY)
	$(BIN)/python -m benchmarks.training_speed ../shared/data/alzheimer-mri $(if $(RIVALS),--rival-python $(RIVALS))
	$(BIN)/python -m benchmarks.alzheimer ../shared/data --recipe fast-pretrained $(if $(RIVALS),--rival-python $(RIVALS))
	$(BIN)/python -m benchmarks.folder_to_report ../shared/data ../shared/weights $(if $(RIVALS),--rival-python $(RIVALS))
	$(BIN)/python -m benchmarks.prediction_speed ../shared/data/alzheimer-mri
	$(BIN)/python -m benchmarks.decoding_speed

bench-audit: $(READY)
	$(BIN)/python -m benchmarks.planted_faults --first-seed 100 --results build/planted-faults

bench-onnx: $(READY)
	$(BIN)/python -m benchmarks.onnx_parity ../shared/data ../shared/weights

bench-pretrained: $(READY)
	$(BIN)/python -m benchmarks.pretrained ../shared/data ../shared/weights

bit-flips: $(READY)
	$(BIN)/python -m benchmarks.bit_flips

bench-recovery: $(READY)
	$(BIN)/python -m benchmarks.recovery --data ../shared/data

bench-audit-cost: $(READY)
	$(BIN)/python -m benchmarks.audit_cost --data ../shared/data/alzheimer-mri

bench-scan-cost: $(READY)
	$(BIN)/python -m benchmarks.scan_cost --workers 1

bench-team: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.team

bench-coverage: $(READY)
	$(BIN)/python -m benchmarks.coverage

bench-drift: $(READY)
	$(BIN)/python -m benchmarks.drift

bench-bridge: $(READY)
	$(BIN)/python -m benchmarks.bridge_round_trip --overlay

bench-dicom: $(READY)
	$(BIN)/python -m benchmarks.dicom_files

kill: $(READY)
	$(BIN)/python -m benchmarks.kill

bad-inputs: $(READY)
	$(BIN)/python -m benchmarks.bad_inputs

injection: $(READY)
	$(BIN)/python -m benchmarks.injection

full-disk: $(READY)
	$(BIN)/python -m benchmarks.full_disk

fuzz: $(READY)
	$(BIN)/python -m benchmarks.fuzz_images --mutants 12500

fuzz-http: $(READY)
	$(BIN)/python -m benchmarks.service_fuzz

soak: $(READY)
	$(BIN)/python -m benchmarks.service_soak

clean:
	rm -rf $(VENV) demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
