# reeve: `make help` tells what there is.

# ---- What may be set: make SANITIZE=address,undefined test T=core PREFIX=/usr DESTDIR=/tmp/root ----
SANITIZE ?=
COVERAGE ?=
FUZZ     ?=
CRASH    ?=
PREFIX   ?= /usr/local
DESTDIR  ?=
T        ?=
ifeq ($(origin CC),default)
CC       := gcc
endif

# As many steps at once as there are processors, unless told otherwise: -j is not in MAKEFLAGS yet when this is read.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += $(shell tr '\0' '\n' </proc/$$PPID/cmdline | grep -qE '^(-j|--jobs)' || printf -- '-j%s' "$$(nproc)")
endif

# One short line for each step; V=1 shows the commands.
Q        := $(if $(V),,@)
say      = @$(if $(V),:,printf '  %-7s %s\n' $(1) $(2))

VERSION  := 0.1.0
SONAME   := libreeve.so.0

empty    :=
comma    := ,
FLAVOUR  := $(if $(FUZZ),fuzz,$(if $(CRASH),crash,$(if $(COVERAGE),coverage,$(if $(SANITIZE),$(subst $(comma),-,$(SANITIZE)),release))))
BUILD    := build/$(FLAVOUR)
# The release flavour is what people use: its results stand directly in build/.
OUT      := $(if $(filter release,$(FLAVOUR)),build,$(BUILD))

ENGINE_PACKAGES   := lmdb msgpack libuv libsodium nettle libisal
FRONTEND_PACKAGES := jansson inih libmicrohttpd gnutls zlib
TEST_PACKAGES     := cmocka
# A peer of the bench: measured where it is there.
BENCH_PACKAGES    := $(shell pkg-config --exists sqlite3 2>/dev/null && echo sqlite3)

# The packages are looked up once they are there: `make help`, `make setup` and `make clean` need none of them.
packages_cflags = $(shell pkg-config --cflags $(1) 2>/dev/null)
packages_libs   = $(shell pkg-config --libs $(1) 2>/dev/null)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes \
            -Wvla -Wundef -Wformat=2 -Wwrite-strings -Werror
CPPFLAGS += -D_GNU_SOURCE -I. -Iengine -Ischemas -I$(BUILD)/include
CFLAGS   ?= -O2 -g
FLAGS    := -std=c11 $(WARNINGS) -fPIC -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection \
            -fno-omit-frame-pointer $(if $(filter x86_64,$(shell uname -m)),-fcf-protection)
LDFLAGS  += -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--as-needed
ifneq ($(FUZZ),)
FLAGS    += -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LDFLAGS  += -fsanitize=address,undefined
else ifneq ($(SANITIZE),)
FLAGS    += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
LDFLAGS  += -fsanitize=$(SANITIZE)
else ifneq ($(COVERAGE),)
FLAGS    += --coverage -fprofile-update=atomic -O0
LDFLAGS  += --coverage
else
CPPFLAGS += $(if $(CRASH),-DREEVE_CRASH_POINTS)
FLAGS    += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
endif
ENGINE_LIBS   = $(call packages_libs,$(ENGINE_PACKAGES)) -lpthread -lm
FRONTEND_LIBS = $(call packages_libs,$(FRONTEND_PACKAGES)) $(ENGINE_LIBS)
PACKAGE_FLAGS := $(call packages_cflags,$(ENGINE_PACKAGES) $(FRONTEND_PACKAGES))

# ---- Sources: the folder says what a file belongs to ----
CRASH_SOURCES    := $(wildcard tests/crash/*.c)
FAULT_SOURCES    := $(wildcard tests/faults/*.c)
FAULTS_LIB       := build/libfaults.so
ENGINE_SOURCES   := $(wildcard engine/*.c engine/base/*.c) $(if $(CRASH),$(CRASH_SOURCES))
FRONTEND_SOURCES := $(filter-out frontends/main.c,$(wildcard frontends/*/*.c)) $(wildcard provisioners/*.c provisioners/*/*.c)
TEST_LIB_SOURCES := $(wildcard tests/lib/*.c)
TEST_SOURCES     := $(wildcard tests/unit/test_*.c)
FUZZ_SOURCES     := $(wildcard tests/fuzz/*.c)
COVERAGE_SOURCES := $(wildcard tests/coverage/*.c)
SIM_SOURCES      := $(wildcard tests/sim/*.c)
STATES_SOURCES   := $(wildcard tests/states/*.c)
BENCH_LIB_SOURCES := $(wildcard bench/lib/*.c)
BENCH_SOURCES    := $(wildcard bench/*.c)
EXAMPLE_SOURCES  := $(wildcard examples/*/*.c)

PLUGINS          := $(filter-out provisioners/plugins/lib,$(wildcard provisioners/plugins/*))
PLUGIN_MODULES   := $(wildcard provisioners/plugins/lib/*.py)
PLUGIN_DIR       := $(PREFIX)/libexec/reeve

object = $(patsubst %.c,$(BUILD)/%.o,$(1))
ENGINE_OBJECTS   := $(call object,$(ENGINE_SOURCES))
FRONTEND_OBJECTS := $(call object,$(FRONTEND_SOURCES))
TEST_LIB_OBJECTS := $(call object,$(TEST_LIB_SOURCES))
BENCH_LIB_OBJECTS := $(call object,$(BENCH_LIB_SOURCES))
ALL_SOURCES      := $(ENGINE_SOURCES) $(FRONTEND_SOURCES) frontends/main.c $(CRASH_SOURCES) $(COVERAGE_SOURCES) $(FAULT_SOURCES) $(TEST_LIB_SOURCES) $(TEST_SOURCES) $(FUZZ_SOURCES) $(SIM_SOURCES) $(STATES_SOURCES) \
                    $(BENCH_LIB_SOURCES) $(BENCH_SOURCES) $(EXAMPLE_SOURCES)
HEADERS          := $(wildcard engine/*.h engine/base/*.h frontends/*/*.h provisioners/*.h provisioners/*/*.h tests/lib/*.h tests/fuzz/*.h tests/sim/*.h tests/states/*.h bench/lib/*.h)
TESTS            := $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(TEST_SOURCES))
# It brings its own malloc(), and so does a sanitizer.
STATES           := $(if $(SANITIZE),,$(OUT)/states)
FUZZERS          := $(patsubst tests/fuzz/fuzz_%.c,$(OUT)/targets/%,$(wildcard tests/fuzz/fuzz_*.c))
CORPORA          := $(patsubst tests/fuzz/fuzz_%.c,$(OUT)/corpora/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCHES          := $(patsubst bench/%.c,$(OUT)/bench/%,$(BENCH_SOURCES))
EXAMPLES         := $(patsubst examples/%.c,$(OUT)/examples/%,$(EXAMPLE_SOURCES))
GENERATED        := $(BUILD)/include/reeve.h $(BUILD)/include/schema_tables.inc
SCHEMAS          := $(wildcard schemas/*.def)

.PHONY: all setup test check test-unit test-api test-servers tests contract sim sim-bugs states states-short states-bugs crash faults fuzz fuzzers lint format-check static-analysis tidy checksymbols format coverage coverage-report \
        bench bench-full bench-guard profile demo demo-clickhouse docs valgrind install uninstall clean distclean help FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(OUT)/reeve $(OUT)/libreeve.a $(OUT)/libreeve.so

help:
	@echo 'make              build/reeve, build/libreeve.a, build/libreeve.so'
	@echo 'make demo         walk one service through its whole life (installs what is missing first)'
	@echo 'make demo-clickhouse  a real ClickHouse, by curl and clickhouse-client: data, backup, idle and awake, restore'
	@echo 'make test         all tests (installs what is missing first); T=name: only those with that name; = make check'
	@echo 'make test-unit    only the C tests              make test-api   only the black-box tests'
	@echo 'make contract     every endpoint of the HTTP API against its OpenAPI document (installs schemathesis into build/venv)'
	@echo 'make test-servers the plugins with the real servers (installs Redis, ClickHouse and PostgreSQL, starts none)'
	@echo 'make lint         format, static analysis, layers, exported symbols'
	@echo 'make format       format all sources            make docs       diagram of the lifecycle from its table'
	@echo 'make bench        what it does beside its floors and peers, in minutes; make bench-full: all of it, in hours'
	@echo 'make bench-guard  instructions per lifecycle beside those written down; UPDATE=1 writes them anew'
	@echo 'make profile      where the processor time of the bench goes: build/profile has flame graphs; PROFILE_FLAGS="--scenario list"'
	@echo 'make sim          simulated life against a model: SEED=1 SEEDS=2000 STEPS=400; make sim-bugs tries the simulator'
	@echo 'make states       every state that two services can reach, by the core itself; make states-short; make states-bugs tries it'
	@echo 'make crash        kills the daemon under load, KILLS=100 times, at random and at each point; SEED=N'
	@echo 'make faults       failing and full disks, files and memory that run out, damaged stores'
	@echo 'make fuzz         hunts with libFuzzer: SECONDS=60 for each target, T=NAME for one; SEED=1: the same inputs each time'
	@echo 'make coverage     line and branch coverage of all suites     make valgrind   C tests under valgrind'
	@echo 'make install      DESTDIR= PREFIX=/usr/local; make uninstall'
	@echo 'make setup        install what building and testing needs (apt); make clean'
	@echo
	@echo 'SANITIZE=address,undefined or SANITIZE=thread with any of them builds in a folder of its own.'

setup:
	@.ci/setup build test

# ---- Compiling ----

# Rewritten only when they change, so that a changed flag, or a file that went away, rebuilds and nothing else does.
COMMAND  := $(CC) $(CPPFLAGS) $(PACKAGE_FLAGS) $(FLAGS) $(CFLAGS) $(LDFLAGS)
$(BUILD)/flags: FORCE
	@pkg-config --exists $(ENGINE_PACKAGES) $(FRONTEND_PACKAGES) || \
	    { echo 'Libraries that reeve is built with are missing; `make setup` installs them.' >&2; exit 1; }
	@mkdir -p $(@D)
	@echo '$(COMMAND)' | cmp -s - $@ || echo '$(COMMAND)' > $@

$(BUILD)/objects: FORCE
	@mkdir -p $(@D)
	@echo '$(ENGINE_OBJECTS) $(FRONTEND_OBJECTS)' | cmp -s - $@ || echo '$(ENGINE_OBJECTS) $(FRONTEND_OBJECTS)' > $@

# The generator runs here: it is built without sanitizers or coverage.
$(BUILD)/generate: schemas/generate.c $(SCHEMAS)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -std=c11 -O1 $(WARNINGS) -Ischemas -o $@ $<

$(BUILD)/include/reeve.h: engine/reeve.h.in $(BUILD)/generate
	@mkdir -p $(@D)
	@$(BUILD)/generate header > $@.part
	@sed -e '/^\/\*@GENERATED@\*\/$$/{r $@.part' -e 'd}' $< > $@.new && rm $@.part && mv $@.new $@

$(BUILD)/include/schema_tables.inc: $(BUILD)/generate
	@mkdir -p $(@D)
	@$(BUILD)/generate tables > $@.new && mv $@.new $@

$(BUILD)/%.o: %.c $(BUILD)/flags | $(GENERATED)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(PACKAGE_FLAGS) $(FLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(patsubst %.c,$(BUILD)/%.d,$(ALL_SOURCES))

$(OUT)/libreeve.a: $(ENGINE_OBJECTS) $(BUILD)/objects
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

$(OUT)/$(SONAME): $(ENGINE_OBJECTS) $(BUILD)/objects
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) $(if $(SANITIZE),,-Wl,--no-undefined) $(LDFLAGS) -o $@ $(filter %.o,$^) $(ENGINE_LIBS)

$(OUT)/libreeve.so: $(OUT)/$(SONAME)
	@ln -sf $(SONAME) $@

# What the one binary is made of besides its main(): tests and benches link it too.
$(BUILD)/libfrontends.a: $(FRONTEND_OBJECTS) $(BUILD)/objects
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

$(OUT)/reeve: $(BUILD)/frontends/main.o $(if $(COVERAGE),$(call object,$(COVERAGE_SOURCES))) $(BUILD)/libfrontends.a $(OUT)/libreeve.a
	$(call say,LINK,$@)
	$(Q)$(CC) -pie $(LDFLAGS) -o $@ $^ $(FRONTEND_LIBS)

# Of the archive each takes what it uses; what is to run by itself is linked as it is.
$(BUILD)/libtests.a: $(filter-out %/filter.o,$(TEST_LIB_OBJECTS))
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

$(OUT)/tests/%: $(BUILD)/tests/unit/%.o $(filter %/filter.o,$(TEST_LIB_OBJECTS)) $(BUILD)/libtests.a $(BUILD)/libfrontends.a $(OUT)/libreeve.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_libs,$(TEST_PACKAGES)) $(FRONTEND_LIBS)

# What it allocates fails where the test says so.
$(OUT)/tests/test_memory: private LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=posix_memalign

$(BENCH_LIB_OBJECTS): CPPFLAGS += $(if $(BENCH_PACKAGES),-DBENCH_SQLITE) $(call packages_cflags,$(BENCH_PACKAGES))

$(OUT)/bench/%: $(BUILD)/bench/%.o $(BENCH_LIB_OBJECTS) $(BUILD)/libfrontends.a $(OUT)/libreeve.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_libs,$(BENCH_PACKAGES)) $(FRONTEND_LIBS)

$(OUT)/sim: $(call object,$(SIM_SOURCES) tests/lib/directory.c) $(OUT)/libreeve.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(ENGINE_LIBS)

# Its own store.c takes the place of the engine's.
$(OUT)/states: $(call object,$(STATES_SOURCES)) $(OUT)/libreeve.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(ENGINE_LIBS)

# What all of them have in common.
FUZZ_LIB := $(addprefix $(BUILD)/tests/fuzz/,common.o frontend.o asks.o)

$(OUT)/targets/%: $(BUILD)/tests/fuzz/fuzz_%.o $(FUZZ_LIB) $(BUILD)/tests/fuzz/repeat.o \
               $(BUILD)/libfrontends.a $(OUT)/libreeve.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(FRONTEND_LIBS)

# The same targets without libFuzzer, for the inputs in tests/fuzz/corpus.
$(OUT)/corpora/%: $(BUILD)/tests/fuzz/fuzz_%.o $(FUZZ_LIB) $(BUILD)/tests/fuzz/corpus.o \
              $(BUILD)/libfrontends.a $(OUT)/libreeve.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(FRONTEND_LIBS)

# Preloaded under a daemon: not built with the flags of what it is preloaded under.
$(FAULTS_LIB): $(FAULT_SOURCES)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARNINGS) -O2 -g -fPIC -shared -o $@ $^ -ldl

# Examples know the installed header and the library, nothing else.
$(OUT)/examples/%: examples/%.c $(OUT)/libreeve.so $(OUT)/$(SONAME) $(GENERATED) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -std=gnu11 $(WARNINGS) $(CFLAGS) $(LDFLAGS) -I$(BUILD)/include -o $@ $< -L$(OUT) -lreeve $(call packages_libs,libuv) \
	    -Wl,-rpath,$(abspath $(OUT))

# ---- Testing ----

test check: ; @.ci/setup build test && $(MAKE) --no-print-directory tests

tests: all $(TESTS) $(STATES) $(CORPORA) $(EXAMPLES) $(FAULTS_LIB)
	@REEVE_FAULTS_LIB=$(abspath $(FAULTS_LIB)) REEVE_BUILD=$(abspath $(OUT)) REEVE_BIN=$(abspath $(OUT)/reeve) REEVE_GENERATE=$(abspath $(BUILD)/generate) tests/run $(T)

test-unit: all $(TESTS) $(STATES) $(CORPORA)
	@REEVE_BUILD=$(abspath $(OUT)) REEVE_BIN=$(abspath $(OUT)/reeve) REEVE_GENERATE=$(abspath $(BUILD)/generate) tests/run --unit $(T)

test-api: all $(EXAMPLES) $(FAULTS_LIB)
	@REEVE_FAULTS_LIB=$(abspath $(FAULTS_LIB)) REEVE_BUILD=$(abspath $(OUT)) REEVE_BIN=$(abspath $(OUT)/reeve) REEVE_GENERATE=$(abspath $(BUILD)/generate) tests/run --api $(T)

# Simulated life: histories that failed once, then SEEDS runs of STEPS steps each, from SEED on.
sim: $(OUT)/sim
	@for history in tests/sim/histories/*; do $(OUT)/sim --history $$history >$(OUT)/sim.log || { cat $(OUT)/sim.log; exit 1; }; done
	@$(OUT)/sim --seed $(or $(SEED),1) --seeds $(or $(SEEDS),2000) --steps $(or $(STEPS),400)

# Does it find what it is for?
sim-bugs:
	@.ci/setup build
	@tests/sim/bugs $(or $(SEEDS),2000)

# Every state of one service with its backups, then of two; and the beginning of two that share one place. Short: the
# first, and the beginning of the second.
states: $(OUT)/states
	@$(OUT)/states --services 1 --backups
	@$(OUT)/states --operations 1 --depth 10
	@$(OUT)/states --operations 2

states-short: $(OUT)/states
	@$(OUT)/states --services 1 --backups
	@$(OUT)/states --depth 8

# Does it find what it is for?
states-bugs:
	@.ci/setup build
	@tests/sim/bugs --states

# Each target SECONDS long (T=NAME: one of them), in turn; what it finds is in build/fuzz/found. With SEED=N no hunt: so
# many inputs for each, the same each time.
fuzz:
	@.ci/setup build fuzz
	@$(MAKE) --no-print-directory FUZZ=1 CC=clang fuzzers
	@SEED=$(SEED) tests/fuzz/run $(or $(SECONDS),60) $(or $(T),$(notdir $(FUZZERS)))

fuzzers: $(FUZZERS)

# Killed again and again, at random and at each point of schemas/crash_points.def.
crash:
	@.ci/setup build test
	@$(MAKE) --no-print-directory CRASH=1 build/crash/reeve $(FAULTS_LIB)
	@REEVE_BIN=$(abspath build/crash/reeve) REEVE_FAULTS_LIB=$(abspath $(FAULTS_LIB)) tests/crash/run --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

# The disk fails, fills up and loses what was not synced; files and memory run out; stores are damaged.
faults:
	@.ci/setup build test
	@$(MAKE) --no-print-directory test-api T=faults

contract:
	@.ci/setup build test contract
	@REEVE_CONTRACT=required $(MAKE) --no-print-directory test-api T=contract

test-servers:
	@.ci/setup build test servers
	@REEVE_SERVERS=required $(MAKE) --no-print-directory test-api T=plugin

valgrind:
	@.ci/setup build test valgrind
	@$(MAKE) --no-print-directory -s $(TESTS)
	@for test in $(TESTS); do valgrind -q --leak-check=full --error-exitcode=9 $$test || exit 1; done

# All suites together: tests with the inputs of the fuzz targets, states, simulated life with its histories. What one of
# them finds is no matter here; how much of the engine they reach is.
LINES_WANTED    := 95
BRANCHES_WANTED := 85
coverage:
	@.ci/setup build test coverage
	@find build/coverage -name '*.gcda' -delete 2>/dev/null; true
	@-$(MAKE) --no-print-directory COVERAGE=1 tests
	@-$(MAKE) --no-print-directory COVERAGE=1 sim SEEDS=$(or $(SEEDS),300)
	@$(MAKE) --no-print-directory coverage-report

# Of what ran since the build.
coverage-report:
	@for part in frontends provisioners; do printf '%s/\n' $$part; $(GCOVR) --filter $$part/ --print-summary | grep -E '^(lines|branches)'; done
	@$(GCOVR) --filter engine/ --filter frontends/ --filter provisioners/ --html-details build/coverage/report.html
	@echo 'build/coverage/report.html and engine.txt have the details. engine/, of which $(LINES_WANTED) % and $(BRANCHES_WANTED) % are wanted:'
	@$(GCOVR) --filter engine/ --print-summary --txt build/coverage/engine.txt --json build/coverage/engine.json \
	    --fail-under-line $(LINES_WANTED) --fail-under-branch $(BRANCHES_WANTED) >build/coverage/summary; status=$$?; \
	    grep -E '^(lines|branches)' build/coverage/summary; exit $$status

# An assertion that does not hold ends the process: there is no other branch to take.
GCOVR = gcovr --root . --object-directory build/coverage --gcov-ignore-parse-errors --exclude-unreachable-branches \
        --exclude-throw-branches --exclude-lines-by-pattern '.*\bassert\(.*'

# ---- Looking after the code ----

lint:
	@.ci/setup build lint
	@$(MAKE) --no-print-directory format-check static-analysis tidy checksymbols

format:
	@clang-format -i $(ALL_SOURCES) $(HEADERS) schemas/generate.c

format-check:
	@clang-format --dry-run --Werror $(ALL_SOURCES) $(HEADERS) schemas/generate.c
	@echo 'format: clean'

static-analysis: $(GENERATED)
	@cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
	    --suppress=missingIncludeSystem --suppress=*:$(BUILD)/include/* -D_GNU_SOURCE -Iengine -Ischemas -I. -I$(BUILD)/include \
	    --library=posix -j2 engine frontends provisioners bench examples
	@shellcheck .ci/run .ci/setup .ci/tidy bench/http-get.sh bench/guard.sh tests/fuzz/run $(wildcard examples/*.sh)
	@echo 'static analysis: clean'

tidy: $(GENERATED)
	@.ci/tidy $(BUILD)

# Everything the header declares is exported, and nothing else.
checksymbols: $(OUT)/$(SONAME)
	@nm -D --defined-only $< | awk '{print $$3}' | LC_ALL=C sort > $(BUILD)/exported
	@echo '#include <reeve.h>' | $(CC) $(CPPFLAGS) $(PACKAGE_FLAGS) -aux-info $(BUILD)/declared.part -fsyntax-only -x c -
	@sed -nE 's|^/\* [^ ]*/reeve\.h:[^*]*\*/ extern [^(]*[ *](reeve_[a-z0-9_]+) \(.*|\1|p' $(BUILD)/declared.part | \
	    LC_ALL=C sort > $(BUILD)/declared
	@diff $(BUILD)/declared $(BUILD)/exported || { echo 'exports of $< (>) are not what reeve.h declares (<)' >&2; exit 1; }
	@echo 'exported symbols: clean'

docs: $(BUILD)/generate $(OUT)/reeve
	@.ci/setup docs
	@$(BUILD)/generate dot > docs/lifecycle.dot
	@dot -Tsvg docs/lifecycle.dot | sed -e '/^<!-- Generated by/d' -e '/^ Pages: /d' > docs/lifecycle.svg
	@$(BUILD)/generate markdown > docs/reference.md
	@for dialect in plain cloud; do $(OUT)/reeve openapi $$dialect | /usr/bin/python3 -c \
	    'import json, sys, yaml; yaml.safe_dump(json.load(sys.stdin), sys.stdout, sort_keys=False, width=120, allow_unicode=True)' \
	    >schemas/openapi-$$dialect.yaml || exit 1; done
	@mv schemas/openapi-plain.yaml schemas/openapi.yaml
	@echo 'docs/lifecycle.dot, docs/lifecycle.svg, docs/reference.md, schemas/openapi.yaml, schemas/openapi-cloud.yaml'

# ---- Running ----

demo: ; @.ci/setup build && $(MAKE) --no-print-directory all && REEVE_BIN=$(abspath build/reeve) examples/demo.sh

demo-clickhouse:
	@.ci/setup build servers
	@$(MAKE) --no-print-directory all
	@REEVE_BIN=$(abspath build/reeve) examples/demo-clickhouse.sh

# Each scenario beside its floors and peers; peers that are not installed are skipped: `.ci/setup build bench`.
bench: BENCH_FLAGS ?=
BENCH_FAILED = { test $$? -ne 2 && echo 'Something failed, see above.'; } # 2: an option was refused
bench: all $(BENCHES)
	@$(OUT)/bench/bench $(BENCH_FLAGS) --json build/bench.json || $(BENCH_FAILED)
	@REEVE_BIN=$(abspath $(OUT)/reeve) HTTP_GET_JSON=build/bench-http-get.json bench/http-get.sh 3 2
	@bench/report build/bench.html build/bench.json build/bench-http-get.json

bench-full: all $(BENCHES)
	@.ci/setup build bench || echo 'peers that are missing are skipped'
	@$(OUT)/bench/bench --full --rounds 3 --seconds 3 --warm 1 $(BENCH_FLAGS) --json build/bench-full.json || $(BENCH_FAILED)
	@REEVE_BIN=$(abspath $(OUT)/reeve) HTTP_GET_JSON=build/bench-http-get.json bench/http-get.sh 5 10
	@$(OUT)/bench/http-slow
	@bench/report build/bench-full.html build/bench-full.json build/bench-http-get.json

# Instructions per lifecycle beside bench/guard.txt; UPDATE=1 writes that file anew.
bench-guard: all $(OUT)/bench/guard
	@.ci/setup build valgrind
	@REEVE_BIN=$(abspath $(OUT)/reeve) GUARD_BIN=$(abspath $(OUT)/bench/guard) bench/guard.sh $(if $(UPDATE),--update)

# Where the processor time of each scenario goes, in minutes: a flame graph and a summary each, in build/profile.
profile: PROFILE_FLAGS ?=
profile: all $(OUT)/bench/bench
	@.ci/setup build profile
	@REEVE_BIN=$(abspath $(OUT)/reeve) bench/profile --bench $(OUT)/bench/bench $(PROFILE_FLAGS)

# ---- Installing ----

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include \
	    $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man3 \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(OUT)/reeve $(DESTDIR)$(PREFIX)/bin/reeve
	install -m 644 $(OUT)/libreeve.a $(DESTDIR)$(PREFIX)/lib/libreeve.a
	install -m 755 $(OUT)/$(SONAME) $(DESTDIR)$(PREFIX)/lib/libreeve.so.$(VERSION)
	ln -sf libreeve.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libreeve.so
	install -m 644 $(BUILD)/include/reeve.h $(DESTDIR)$(PREFIX)/include/reeve.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' engine/reeve.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/reeve.pc
	install -m 644 docs/man/reeve.1 $(DESTDIR)$(PREFIX)/share/man/man1/reeve.1
	install -m 644 docs/man/libreeve.3 $(DESTDIR)$(PREFIX)/share/man/man3/libreeve.3
	$(OUT)/reeve completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/reeve
	install -d $(DESTDIR)$(PLUGIN_DIR)/lib
	install -m 755 $(PLUGINS) $(DESTDIR)$(PLUGIN_DIR)
	install -m 644 $(PLUGIN_MODULES) $(DESTDIR)$(PLUGIN_DIR)/lib
	-/usr/bin/python3 -m compileall -q -s $(DESTDIR)/ -p / $(DESTDIR)$(PLUGIN_DIR)/lib
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/reeve $(DESTDIR)$(PREFIX)/lib/libreeve.a $(DESTDIR)$(PREFIX)/lib/libreeve.so.$(VERSION) \
	    $(DESTDIR)$(PREFIX)/lib/$(SONAME) $(DESTDIR)$(PREFIX)/lib/libreeve.so $(DESTDIR)$(PREFIX)/include/reeve.h \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig/reeve.pc $(DESTDIR)$(PREFIX)/share/man/man1/reeve.1 \
	    $(DESTDIR)$(PREFIX)/share/man/man3/libreeve.3 $(DESTDIR)$(PREFIX)/share/bash-completion/completions/reeve
	rm -rf $(DESTDIR)$(PLUGIN_DIR)

clean distclean:
	rm -rf build
