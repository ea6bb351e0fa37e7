# Aliases only: the scripts do the work, and run without make just as well.
.PHONY: run test lock artifacts gas review bench

run: ## everything in one process tree
	@scripts/run

test: ## lint, types, layers, every test
	@scripts/test

lock: ## pin the dependencies anew
	@scripts/lock

artifacts: ## compile the contracts
	@scripts/python --dev -m contracts.compile

gas: ## measure what rounds and reads cost, and write it down
	@scripts/python --dev -m contracts.gas

review: ## slither and solhint; SLITHER names slither's command
	@npm run -s --prefix contracts lint
	@scripts/python --dev -m contracts.review --slither $(or $(SLITHER),slither)

bench: ## measure, both sides in one run
	@scripts/python --dev -m benchmarks
