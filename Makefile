# The two commands of this project are `make lab` and `make test`. Both install what they need first: as root on Debian
# or Ubuntu with apt-get, else they name what is missing.

CARGO   ?= cargo
LAB     := target/release/lab
LAB_DIR ?= /run/vswitch-lab
# Seconds that `make fuzz` fuzzes.
FUZZ_SECONDS ?= 600

# The lab's programs, the judges of the tests, and the guest of the QEMU check,
# by Debian package.
PACKAGES := iproute2 nftables iputils-ping tcpdump tshark nfdump iperf3 ethtool qemu-system-x86 busybox-static cpio

.DEFAULT_GOAL := help
.PHONY: help deps build lab check test bench loom fuzz clean

help:
	@echo "make lab     build, start a lab, open the switch's prompt; the lab goes when you leave it"
	@echo "make test    everything that CI runs"
	@echo "make bench   measure: memory ports, taps, and ratios to a bare loop and Open vSwitch"
	@echo "make loom    check what the workers share, in every order of their reads and writes"
	@echo "make fuzz    fuzz the frame path for $(FUZZ_SECONDS) s (FUZZ_SECONDS=)"
	@echo "make deps    install the Debian packages that these need"
	@echo "make clean   remove what was built"

deps:
	@scripts/deps $(PACKAGES)

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
	$(CARGO) test --workspace

bench: deps
	$(CARGO) bench -p vswitch --bench road
	$(CARGO) bench -p vswitch --bench workers
	$(CARGO) build --release --workspace --bins
	$(CARGO) build --release -p vswitch --example bare_loop
	target/release/bench_tap

# Built apart from everything else: the atomics are loom's.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test -p vswitch --lib --release loom

# Needs the nightly toolchain, for the sanitizer.
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz
	cd vswitch/fuzz && $(CARGO) +nightly fuzz run road -- -max_total_time=$(FUZZ_SECONDS)

clean:
	$(CARGO) clean
