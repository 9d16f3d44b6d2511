# make help lists the targets.
SHELL   := /bin/bash
.SHELLFLAGS := -o pipefail -c
GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: build deps images servers tools before faults faults-of-swarm scaling-beside-swarm pods chaos loss scale compare demo test unit cluster e2e bench fuzz lint install clean help

build: ## build bin/shoal
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/shoal ./cmd/shoal

deps: ## install the Debian packages that are missing (needs root)
	@./.ci/install

images: ## build the example images, without any registry
	$(GO) run ./examples/images -out build/images

servers: ## build what the tests run: images of PostgreSQL, MariaDB, nginx, memcached and Prometheus from Debian's packages, and a CSI driver
	$(GO) run ./examples/images -servers -out build/images

demo: deps build images ## start three peers in the lab, run the guestbook, sign it and read it back
	@./examples/demo

test: deps unit cluster e2e ## run every test

RACING := consensus gossip internal/client internal/fair internal/peer internal/testcluster

unit: ## pure and package tests
	$(GO) test $$($(GO) list ./... | grep -vE '^shoal/($(subst $() ,|,$(RACING)))(/|$$)')

cluster: ## the tests that are run with the race detector: store, consensus, gossip, and whole clusters in one process
	CGO_ENABLED=1 $(GO) test -race $(addprefix ./,$(addsuffix /...,$(RACING)))

tools: ## the kubectls, the Helm and the etcd that the tests judge by
	@./.ci/tools

# The release before, or as long as there is none, what main was some steps ago.
BEFORE ?= $(shell git describe --tags --abbrev=0 2>/dev/null || git rev-list --max-count=16 HEAD | tail -1)

before: build ## build the commit BEFORE, which the test of upgrades begins with
	@./.ci/before $(BEFORE)

FAULT_RUNS ?= 10

faults: build images ## the six faults, FAULT_RUNS (10) times each, with figures; all that is said is in build/faults.log (needs root)
	SHOAL_FAULT_RUNS=$(FAULT_RUNS) $(GO) test -tags e2e -count=1 -timeout 1h -v -run '^TestFaults$$' ./internal/e2e/ | tee build/faults.log | grep -aE 'FIGURES|^(---|ok|FAIL|PASS)'

faults-of-swarm: images ## the same six faults done to the leader of a Docker Swarm, FAULT_RUNS times each; some ten minutes a round (needs root)
	@./.ci/tools dockerd
	SHOAL_FAULT_RUNS=$(FAULT_RUNS) $(GO) test -tags e2e -count=1 -timeout 4h -v -run '^TestFaultsOfSwarm$$' ./internal/e2e/ | tee build/faults-of-swarm.log | grep -aE 'FIGURES|^(---|ok|FAIL|PASS)'

SCALING_RUNS ?= 5

scaling-beside-swarm: build images ## 0 to 50 replicas and back, and ten replaced, beside Docker Swarm, SCALING_RUNS (5) times each (needs root)
	@./.ci/tools dockerd
	SHOAL_SCALING_RUNS=$(SCALING_RUNS) $(GO) test -tags e2e -count=1 -timeout 1h -v -run '^TestScalingBesideSwarm$$' ./internal/e2e/ | tee build/scaling.log | grep -aE 'FIGURES|^(---|ok|FAIL|PASS)'

POD_RUNS ?= 20

pods: build images ## what pods of one machine cost: POD_RUNS (20) starts beside ctr's and Docker's, 100 and back, 250 that do nothing (needs root)
	@./.ci/tools dockerd
	SHOAL_PODS=$(POD_RUNS) $(GO) test -tags e2e -count=1 -timeout 1h -v -run '^TestPodsOfOneMachine$$' ./internal/e2e/ | tee build/pods.log | grep -aE 'FIGURES|^(---|ok|FAIL|PASS)'

chaos: build images ## for CHAOS_TIME (10m): histories of calls under faults, a fifth of it in one process and half of it through the API, workloads that must converge, and for a sixth a machine whose innards die; from the seed CHAOS_SEED (1) on; all that is said is in build/chaos.log (needs root)
	@mkdir -p build
	CHAOS_TIME=$${CHAOS_TIME:-10m} $(GO) test -count=1 -timeout 0 -v -run '^TestHistoriesAreLinearizable$$' ./consensus/ | tee build/chaos.log | grep -vE 'level=|=== RUN|--- PASS: .*/'
	CHAOS_TIME=$${CHAOS_TIME:-10m} $(GO) test -count=1 -timeout 0 -v -run '^(TestWorkloadsConverge|TestDataStaysWhereItIs)$$' ./internal/testcluster/ | tee -a build/chaos.log | grep -vE 'level=|=== RUN|--- PASS: .*/|moments'
	CHAOS_TIME=$${CHAOS_TIME:-10m} $(GO) test -tags e2e -count=1 -timeout 0 -v -run '^(TestHistoriesThroughTheAPI|TestTheInnardsOfAMachineDie)$$' ./internal/e2e/ | tee -a build/chaos.log | grep -vE '=== RUN|^ *time='

scale: ## figures of the Master's work on 5,000 hollow nodes with 150,000 pods, divided by SCALE (1)
	@mkdir -p build
	SHOAL_SCALE=$${SCALE:-1} $(GO) test -count=1 -timeout 1h -v ./internal/hollow/ | tee build/scale.log | grep -aE 'FIGURES|^(---|ok|FAIL|PASS)'

loss: build images ## LOSS_TIME (1h) with LOSS_PERCENT (2) of all packets lost and all cores busy: who is taken for dead (needs root)
	LOSS_TIME=$${LOSS_TIME:-1h} $(GO) test -tags e2e -count=1 -timeout 0 -v -run '^TestLossAndBusyCoresKillNobody$$' ./internal/e2e/ | tee build/loss.log | grep -aE 'FIGURES|^(---|ok|FAIL|PASS)'

compare: build images tools ## beside etcd: creates, gets, lists and watches with the same clients (needs root)
	SHOAL_COMPARE=full $(GO) test -tags e2e -count=1 -timeout 30m -v -run '^TestBesideEtcd$$' ./internal/e2e/ | grep -E 'FIGURES|^(---|ok|FAIL|PASS)'

e2e: build images servers tools before ## real processes, containers and packets (needs root)
	$(GO) test -tags e2e -count=1 -timeout 45m ./internal/e2e/...

bench: ## the standing benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./consensus/... ./master/... ./proxy/... ./node/...

fuzz: ## ten seconds of each fuzz target
	@./.ci/fuzz 10s

lint: ## formatting, vet, staticcheck, errcheck, modules and house rules
	@./.ci/lint

install: build ## put shoal into /usr/local/bin
	install -m 0755 bin/shoal /usr/local/bin/shoal

clean: ## remove what was built
	rm -rf bin build

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 14
