# xentrace. Run "make help" for the targets.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

# sudo's PATH is short: Go is also looked for where it is usually put.
GO := $(shell command -v go || ls /usr/local/go/bin/go /usr/lib/go/bin/go $(if $(SUDO_USER),~$(SUDO_USER)/go/bin/go) 2>/dev/null | head -n 1)
export PATH := $(PATH):$(patsubst %/,%,$(dir $(GO)))

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# What compiles the BPF objects. The objects are committed; only those who change
# the C sources need it.
CLANG := clang-19
LLVM_STRIP := llvm-strip-19
CLANG_FORMAT := clang-format-19
BPF_INCLUDE = /usr/include/$(shell uname -m)-linux-gnu

PREFIX := /usr/local
BIN = $(DESTDIR)$(PREFIX)/bin
SHARE = $(DESTDIR)$(PREFIX)/share
MAN1 = $(SHARE)/man/man1
BASH_COMPLETION = $(SHARE)/bash-completion/completions
ZSH_COMPLETION = $(SHARE)/zsh/site-functions
FISH_COMPLETION = $(SHARE)/fish/vendor_completions.d
PROGRAMS := xentrace xentrace-exporter
COMMANDS := watch hist record replay report compare check probe fix congestion learn demo version completion man

# Under sudo the owner of the tree builds: one build cache, and nothing of root's in it.
OWNER := $(if $(SUDO_USER),$(shell stat -c %U .))
AS_OWNER := $(if $(OWNER),$(if $(filter $(OWNER),$(SUDO_USER)),sudo -H -u $(OWNER)))

# make test-xen KERNEL=6.12 DRIVER=stock VCPUS=2 RUN=Rockets; without KERNEL, those below.
KERNEL :=
DRIVER := $(if $(KERNEL),stock)
VCPUS := 1
RUN :=

# make vagrant-box builds it, make test-vagrant brings it up.
BOX := build/vagrant/debian12.box

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: go
go:
	@test -n "$(GO)" || { echo "xentrace: Go 1.26 or newer is needed and was not found: install it from https://go.dev/dl/ into /usr/local/go" >&2; exit 1; }
	@$(GO) version | awk '{ split(substr($$3, 3), v, "."); exit !(v[1] > 1 || v[2] >= 26) }' || \
		{ echo "xentrace: Go 1.26 or newer is needed, this is $$($(GO) version): install it from https://go.dev/dl/" >&2; exit 1; }

# Not -buildmode=pie: without cgo, Go links a PIE that needs /lib64/ld-linux-x86-64.so.2
# (Go 1.26), and the binary must run where there is none, as in an initramfs.
.PHONY: build
build: go ## build ./xentrace and ./xentrace-exporter, static binaries
	$(AS_OWNER) env CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o . ./cmd/xentrace ./cmd/xentrace-exporter

.PHONY: demo
demo: build ## see it work, on a veth pair of its own (needs root)
	./xentrace demo

# Where programs are looked for. Xen's tools have another xentrace, in /usr/sbin.
SEARCHED := /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin

# go version reads what a binary was built from and does not run it.
.PHONY: no-other-xentrace
no-other-xentrace: go
	@$(if $(DESTDIR),,for file in $(wildcard $(addsuffix /xentrace,$(SEARCHED))); do \
		$(GO) version -m "$$file" 2>/dev/null | grep '\<xentrace/cmd/xentrace$$' >/dev/null || { \
			echo "xentrace: not installed: $$file is another program (Xen's tools have one of this name), and PATH would decide which of the two runs; remove it, or copy ./xentrace under another name" >&2; exit 1; }; \
	done)

.PHONY: install
install: no-other-xentrace build ## install the programs, their manual pages and completions
	install -d $(BIN) $(MAN1) $(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION)
	install -m 755 $(PROGRAMS) $(BIN)
	install -D -m 644 NOTICE $(SHARE)/doc/xentrace/NOTICE
	for program in $(PROGRAMS); do \
		./$$program man > $(MAN1)/$$program.1 && \
		./$$program completion bash > $(BASH_COMPLETION)/$$program && \
		./$$program completion zsh > $(ZSH_COMPLETION)/_$$program && \
		./$$program completion fish > $(FISH_COMPLETION)/$$program.fish || exit 1; \
	done
	for command in $(COMMANDS); do ./xentrace man $$command > $(MAN1)/xentrace-$$command.1 || exit 1; done
	install -D -m 644 packaging/xentrace.lua $(SHARE)/xentrace/xentrace.lua

.PHONY: uninstall
uninstall: ## remove what make install installed
	rm -f $(PROGRAMS:%=$(BIN)/%) $(PROGRAMS:%=$(MAN1)/%.1) $(COMMANDS:%=$(MAN1)/xentrace-%.1) \
		$(PROGRAMS:%=$(BASH_COMPLETION)/%) $(PROGRAMS:%=$(ZSH_COMPLETION)/_%) $(PROGRAMS:%=$(FISH_COMPLETION)/%.fish) \
		$(SHARE)/xentrace/xentrace.lua $(SHARE)/doc/xentrace/NOTICE
	rm -df $(SHARE)/xentrace $(SHARE)/doc/xentrace

.PHONY: packages
packages: go ## build deb and rpm packages into dist/ (needs no root)
	packaging/build packages

.PHONY: release
release: go ## build all of a release into dist/: packages, tarballs, SBOMs, images, checksums
	packaging/deps
	packaging/build release

.PHONY: test-packages
test-packages: go ## install, upgrade and remove the packages in fresh roots, run the image, build a release twice (needs root)
	packaging/deps
	packaging/test
	packaging/reproduce release

.PHONY: test-alerts
test-alerts: build ## alerts of a real Prometheus and Alertmanager, for an exporter on a veth pair that is killed, too; takes 2 minutes (needs root)
	.ci/prometheus
	XENTRACE_ALERTS=$(CURDIR)/xentrace-exporter $(GO) test ./packaging/prometheus -run '^TestAlertsOfA(Live|Killed)Exporter$$' -v -count 1

# How long the exporter is scraped 100 times a second.
SCRAPES := 60s

.PHONY: test-scrapes
test-scrapes: ## 100 scrapes per second for SCRAPES=60s, of 1 and of 64 interfaces: CPU, memory, lost records (needs root)
	CGO_ENABLED=0 XENTRACE_SCRAPES=$(SCRAPES) $(GO) test ./cmd/xentrace-exporter -run '^TestScrapesUnderTraffic$$' -v -count 1

.PHONY: deps
deps: go ## install what building, testing and the lab need, on Debian 12
	.ci/deps
	.ci/parsers
	.ci/browser
	.ci/prometheus
	test/xen/deps

.PHONY: generate
generate: go ## compile the BPF programs and write their Go types
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) BPF2GO_CFLAGS=-I$(BPF_INCLUDE) $(GO) generate ./bpf
	printf '%s\n' '// Code generated by make generate; DO NOT EDIT.' '' 'package bpf' '' \
		'// ClangVersion is the compiler that the BPF objects were made with.' \
		"const ClangVersion = \"$$($(CLANG) --version | sed -n '1s/.*version //p')\"" > bpf/clang.go

.PHONY: notice
notice: go ## write NOTICE, the licences of what is linked in
	$(GO) run ./packaging/notice > NOTICE.new
	mv NOTICE.new NOTICE

.PHONY: test
test: deps build ## all tests: Go, BPF on this kernel, and the Xen lab
	XENTRACE_REQUIRE_ALL=1 $(GO) test -race ./...
	XENTRACE_REQUIRE_ALL=1 CGO_ENABLED=0 $(GO) test ./cmd/... ./internal/sandbox ./internal/kernel # -race needs cgo, which cannot drop privileges
	XENTRACE_REQUIRE_ALL=1 CGO_ENABLED=0 $(GO) test -run WithoutRoot ./internal/trace
	$(MAKE) --no-print-directory test-xen bench-xen-check

# How long each fuzz test runs; CI has less time.
FUZZTIME := 3m

.PHONY: fuzz
fuzz: go ## fuzz each parser for FUZZTIME=3m
	.ci/fuzz $(FUZZTIME)

# How long hostile programs run; make test has them run for a second.
HOSTILE := 10m

.PHONY: test-hostile
test-hostile: build ## hostile programs of an ordinary user, interfaces that come and go, 1,000 namespaces for HOSTILE=10m (needs root)
	XENTRACE_HOSTILE=$(HOSTILE) XENTRACE_BINARY=$(CURDIR)/xentrace $(GO) test ./test/netns -run '^(TestHostilePrograms|TestInterfaceThatComesAndGoes)$$' -v -count 1 -timeout 2h
	XENTRACE_HOSTILE=$(HOSTILE) $(GO) test ./internal/netdev -run '^TestThousandNamespaces$$' -v -count 1 -timeout 2h

.PHONY: test-xen
test-xen: build ## the tests in a real Xen guest; KERNEL=, DRIVER=stock|prefix and RUN=REGEXP choose
	test/xen/deps
ifneq ($(KERNEL),)
	test/xen/suite --timeout 1800 --kernel $(KERNEL) --driver $(DRIVER) --vcpus $(VCPUS) $(if $(RUN),-- -test.run '$(RUN)')
else
	test/xen/suite --timeout 2400 --kernel 6.1 --driver prefix -- -test.run 'Lab|Hist|Wait|Ordinary|Check|Owner|Stack$$|FollowingCosts|FixOver|Probe$$|ProbeText|OnTheScreen|WatchRockets/kprobe|RecordAStall|ReplayInTheGuest'
	test/xen/suite --timeout 1200 --kernel 6.1 --driver prefix -- -test.run 'StalledConnection$$/ipv6/kprobe'
	test/xen/suite --timeout 2400 --kernel 6.12 --driver stock --vcpus 2 -- -test.run 'Lab|Wait|Check|ScatterGather|Congestion'
	test/xen/suite --timeout 2400 --kernel 6.1 --driver prefix --vcpus 2 -- -test.run 'Life(Driver|Renamed|Moved|Settings|Ends|Head|Stopped)/kprobe'
	test/xen/suite --timeout 2400 --kernel 5.10 --driver stock -- -test.run 'Lab|Wait|KernelSide|Check|LearnedTypes'
	test/xen/suite --timeout 1200 --type pvh --kernel 6.12-rt -- -test.run 'Realtime|LabIs'
	test/xen/suite --timeout 1200 --type pvh --kernel 6.12-cloud -- -test.run 'Lab|WatchRockets/kprobe|Check$$'
	test/xen/matrix --kernel 6.12
	test/xen/driver-files
	$(MAKE) --no-print-directory test-xen-soak SOAK=30s
endif

.PHONY: test-xen-all
test-xen-all: build ## every path of the driver on every kernel under every backend; writes docs/kernels.md
	test/xen/deps
	test/xen/suite --timeout 1800 --type pvh --kernel 6.12-rt -- -test.run 'Realtime|LabIs'
	test/xen/suite --timeout 1200 --kernel 6.12-nobtf -- -test.run 'KernelWithoutBTF|TypesOfAFile|LearnedTypes'
	test/xen/matrix --table docs/kernels.md

.PHONY: test-xen-ec2rl
test-xen-ec2rl: build ## ec2rl's modules, check and real packets side by side, on every kernel; writes docs/ec2rl.md
	test/xen/deps
	test/xen/ec2rl --table docs/ec2rl.md

# How long the soak sends; CI has less time.
SOAK := 10m

.PHONY: test-xen-soak
test-xen-soak: build ## traffic from two CPUs for SOAK=10m while the interface is toggled, in a Xen guest
	test/xen/deps
	test/xen/suite --timeout 1800 --kernel $(or $(KERNEL),6.1) --driver $(or $(DRIVER),prefix) --vcpus 2 \
		--env XENTRACE_SOAK=$(SOAK) -- -test.run '^TestSoak$$' -test.timeout 30m

# How long the exporter's soak takes: an hour, once in a while.
EXPORTER_SOAK := 60s

.PHONY: test-xen-exporter-soak
test-xen-exporter-soak: build ## an exporter that records for EXPORTER_SOAK=60s under traffic, toggles, reloads and a full disk, in a Xen guest
	test/xen/deps
	test/xen/suite --timeout 7200 --kernel $(or $(KERNEL),6.1) --driver $(or $(DRIVER),prefix) --vcpus $(VCPUS) \
		--file $(CURDIR)/xentrace-exporter --env XENTRACE_EXPORTER_SOAK=$(EXPORTER_SOAK) -- -test.run '^TestExporterSoak$$' -test.timeout 2h

.PHONY: test-xen-alerts
test-xen-alerts: build ## alerts of a real Prometheus for a Xen guest, scraped through a tunnel, and a veth host (needs root)
	test/xen/deps
	.ci/prometheus
	test/xen/alerts --kernel $(or $(KERNEL),6.1) --driver $(or $(DRIVER),prefix)

.PHONY: test-xen-shell
test-xen-shell: build ## a shell in a Xen guest
	test/xen/deps
	test/xen/shell --kernel $(or $(KERNEL),6.1) --driver $(or $(DRIVER),stock) --vcpus $(VCPUS)

.PHONY: vagrant-box
vagrant-box: go ## build a Debian 12 box for the Vagrantfile (needs root)
	test/xen/vagrant/deps
	test/xen/vagrant/box $(BOX)

$(BOX):
	$(MAKE) --no-print-directory vagrant-box

.PHONY: test-vagrant
test-vagrant: | $(BOX) ## bring the Vagrantfile's machine up from that box, without KVM, and test in it (needs root)
	test/xen/vagrant/deps
	test/xen/vagrant/try $(BOX) "make test-xen KERNEL=6.1 RUN='Lab|Rockets'"

.PHONY: bench
bench: deps build ## what it costs, against an empty program and bpftrace (needs root)
	test/bench/run

.PHONY: bench-xen
bench-xen: build ## what it costs in a Xen guest, in instructions, on KERNEL= or all; writes docs/cost.md
	test/xen/deps
	test/xen/bench --write docs/cost.md $(addprefix --kernel ,$(KERNEL))

.PHONY: bench-xen-check
bench-xen-check: build ## fail if a packet costs more than docs/cost.md says, on 6.1
	test/xen/deps
	test/xen/bench --check --kernel 6.1

.PHONY: lint
lint: go ## formatting, vet, staticcheck, shellcheck, clang-format, vagrant validate
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	shellcheck .ci/prometheus packaging/{boot,build,changelog,deps,reproduce,service,test} packaging/container/build packaging/deb/{postinst,prerm,postrm}
	$(GO) vet ./...
	$(GO) vet -tags xenlab,matrix ./test/... ./internal/netfront
	GOARCH=arm64 $(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags xenlab,matrix ./test/... ./internal/netfront
	$(CLANG_FORMAT) --dry-run --Werror bpf/*.c bpf/*.h
	shellcheck .ci/run .ci/deps .ci/parsers .ci/browser .ci/fuzz test/bench/run internal/fix/testdata/*.sh internal/filter/expression/testdata/generate
	cd test/xen && shellcheck -a -x run shell suite alerts arm64 destroyed matrix bench ec2rl driver-files fetch driver deps init/* vagrant/*
	VAGRANT_HOME=$(CURDIR)/build/vagrant/lint VAGRANT_DOTFILE_PATH=$(CURDIR)/build/vagrant/lint vagrant validate

.PHONY: clean
clean: ## remove what was built, but not the lab's cache
	rm -rf $(PROGRAMS) build dist
