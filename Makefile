# The two commands of this project are `make lab` and `make test`. Both install what they need first: as root on Debian
# or Ubuntu with apt-get, else they name what is missing.

CARGO   ?= cargo
LAB     := target/release/lab
LAB_DIR ?= /run/vswitch-lab
# Seconds that `make fuzz` fuzzes, and what: road, parse, erspan, vhost_ring, vhost_message or cli.
FUZZ_SECONDS ?= 600
FUZZ ?= road
FUZZ_DIR := $(if $(filter cli,$(FUZZ)),vsm,vswitch)/fuzz

# The lab's programs, the judges of the tests, and the guest of the QEMU check,
# by Debian package.
PACKAGES := iproute2 nftables iputils-ping openssh-client curl tcpdump libpcap-dev tshark nfdump iperf3 ethtool qemu-system-x86 busybox-static cpio rsyslog snmpd snmp snmptrapd freeradius chromium chromium-driver pmacct python3-scapy

# What `make bench` measures against, and with. dpdk-testpmd is in dpdk-dev.
PACKAGES_BENCH := openvswitch-switch openvswitch-switch-dpdk dpdk dpdk-dev fprobe valgrind

# Parts of the bench, all when none is named: instructions road workers flood vhost tap meter noisy manage
PART ?=

.DEFAULT_GOAL := help
.PHONY: help deps deps-bench build lab check test bench loom fuzz clean

help:
	@echo "make lab     build, start a lab, open the switch's prompt; the lab goes when you leave it"
	@echo "make test    everything that CI runs"
	@echo "make bench   measure, write docs/performance.md; parts: PART='instructions road workers flood vhost tap meter noisy manage'"
	@echo "make loom    check what the workers share, in every order of their reads and writes"
	@echo "make fuzz    fuzz the frame path for $(FUZZ_SECONDS) s (FUZZ_SECONDS=); FUZZ='parse', 'erspan', 'vhost_ring', 'vhost_message' or 'cli'"
	@echo "make deps    install the Debian packages that these need"
	@echo "make clean   remove what was built"
	@echo "make instructions asan memcheck miri kills relay-kills truth mirror-truth ids   the gates of docs/testing.md; BLESS=1 renews the counts of the first"

# Daemons of the packages are not to start: the lab and the tests start what they need by themselves.
deps:
	@RUNLEVEL=1 scripts/deps $(PACKAGES)

build: deps
	$(CARGO) build --release --workspace --bins

# The prompt ends with `exit`; whatever ends it, the lab goes.
lab: build
	@trap '$(LAB) --dir $(LAB_DIR) down' EXIT; trap 'exit 130' INT TERM HUP; \
	  $(LAB) --dir $(LAB_DIR) up && $(LAB) --dir $(LAB_DIR) cli

# The scripted proof, in a lab that is up or in one of its own.
check: build
	@if [ -e $(LAB_DIR)/lab.json ]; then $(LAB) --dir $(LAB_DIR) check; else \
	  trap '$(LAB) --dir $(LAB_DIR) down' EXIT; trap 'exit 130' INT TERM HUP; \
	  $(LAB) --dir $(LAB_DIR) up && $(LAB) --dir $(LAB_DIR) check; fi

# The end-to-end tests are part of the workspace's tests; they start the binaries that are built first.
test: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --no-fail-fast

deps-bench: deps
	@scripts/deps $(PACKAGES_BENCH)

bench: deps-bench
	$(CARGO) build --release --workspace --bins
	$(CARGO) build --release -p vswitch --example bare_loop
	CARGO=$(CARGO) target/release/bench $(PART)

# Built apart from everything else: the atomics are loom's.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test -p vswitch --lib --release loom

# Needs the nightly toolchain, for the sanitizer.
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz
	@mkdir -p $(FUZZ_DIR)/corpus/$(FUZZ)
	@[ $(FUZZ) != cli ] || for f in vsm/tests/cli/*.txt vsm/tests/cli/configuration/*.txt; do \
	  { printf '\040'; sed -n 's/^[a-z0-9]*\((config[^)]*)\)\{0,1\}# *//p' $$f; } >vsm/fuzz/corpus/cli/$$(basename $$f .txt); done
	cd $(FUZZ_DIR) && $(CARGO) +nightly fuzz run $(FUZZ) -- -max_total_time=$(FUZZ_SECONDS)$(if $(filter cli,$(FUZZ)), -max_len=20000)

clean:
	$(CARGO) clean

# The gates of docs/testing.md: what no ordinary run of the tests would see.
.PHONY: instructions asan memcheck miri kills truth mirror-truth ids

# The supervisor is killed this often in the middle of commits, saves and checkpoints.
KILLS ?= 1000
kills:
	KILLS=$(KILLS) $(CARGO) test -p vsm --test killed -- --nocapture a_killed_supervisor

# Packets that the flow export must report exactly, in ten times fewer flows.
TRUTH_PACKETS ?= 1000000
truth: deps
	TRUTH_PACKETS=$(TRUTH_PACKETS) $(CARGO) test -p vem --test export_truth -- --nocapture

# So many mixed frames through SPAN and ERSPAN, judged by tshark, scapy and a decoder that knows nothing of the switch.
MIRROR_FRAMES ?= 1000000
mirror-truth: deps
	MIRROR_FRAMES=$(MIRROR_FRAMES) $(CARGO) test --release -p vswitch --test mirror_truth -- --nocapture

# A real Suricata: it reads the files of the judges above, and looks at a SPAN port and behind an ERSPAN session of a lab.
PACKAGES_IDS := suricata python3
ids: build
	@RUNLEVEL=1 scripts/deps $(PACKAGES_IDS)
	SURICATA=suricata MIRROR_FRAMES=100000 $(CARGO) test --release -p vswitch --test mirror_truth -- --nocapture
	@trap '$(LAB) --dir $(LAB_DIR)-ids down' EXIT; trap 'exit 130' INT TERM HUP; \
	  $(LAB) --dir $(LAB_DIR)-ids up --prefix ids --hosts 2 --vms-per-host 3 && $(LAB) --dir $(LAB_DIR)-ids check suricata

# Both ends of flow-relay are killed this often; and an hour of outage at 20,000 records a second, by a clock of the test's own.
.PHONY: relay-kills
relay-kills:
	KILLS=$(KILLS) $(CARGO) test -p vem --test relay -- --nocapture kills
	OUTAGE_S=3600 $(CARGO) test --release -p vem --lib -- --nocapture relay::tests::after_an_outage

# Instructions per stage of the frame path, held against vswitch/benches/instructions.json.
instructions:
	@scripts/deps valgrind
	$(CARGO) bench -p vswitch --bench instructions

# Tests of the dataplane that need no privileges, by name, so that those of devices stay out.
ASAN_TESTS := --lib --test bridge --test control --test drops --test flows --test metering --test guests --test mirror --test replay \
  --test mirror_choice --test mirror_thread --test erspan_session --test oracle
# Needs the nightly toolchain. The target is named so that build scripts are built without the sanitizer.
asan:
	RUSTFLAGS=-Zsanitizer=address ORACLE_CASES=2000 $(CARGO) +nightly test -p vswitch --target x86_64-unknown-linux-gnu $(ASAN_TESTS)

# Modules that hold memory which others write, or that are written with offsets that others sent.
MEMCHECK := flow::cache frame:: offload:: parse:: port:: table::mac wire::
memcheck: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := valgrind --quiet --error-exitcode=1 --leak-check=full \
  --show-leak-kinds=definite --errors-for-leak-kinds=definite
memcheck:
	@scripts/deps valgrind
	$(CARGO) test -p vswitch --lib -- --test-threads=1 $(MEMCHECK)

# Needs the nightly toolchain with its component miri. Modules without a system call and without thousands of cases.
MIRI := flow::hash frame:: observe:: parse:: table::acl::list table::acl::term table::portset wire::
miri:
	$(CARGO) +nightly miri test -p vswitch --lib -- $(MIRI)
