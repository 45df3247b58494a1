# Two commands do everything from a fresh clone: `make quickstart` and `make test`.

SWIFT ?= swift
# Tests reach inside the modules, which changes every object file: they have a build folder of their own.
TEST_BUILD = --scratch-path .build/tests -c release -Xswiftc -enable-testing
CONDENSE = .build/release/condense

.PHONY: build test lint format quickstart bench setup clean

build: setup
	$(SWIFT) build -c release --product condense

setup:
	@sh scripts/setup.sh

quickstart: build
	$(CONDENSE) run recipes/quickstart.yaml
	@echo
	$(CONDENSE) generate quickstart-output/quickstart.condensed --prompt "The king" --tokens 40

test: setup
	$(SWIFT) build --build-tests $(TEST_BUILD)
	$(SWIFT) test --skip-build $(TEST_BUILD)

lint:
	$(SWIFT) format lint --strict --recursive Package.swift Sources Tests

format:
	$(SWIFT) format --in-place --recursive Package.swift Sources Tests

bench: build
	bash scripts/bench.sh

clean:
	rm -rf .build quickstart-output
