# elacsym: one Makefile, a folder per flavour.
#   make                 build/release/elacsym
#   make run             installs what is missing, builds, serves (ARGS="--config FILE")
#   make test            installs what tests need, builds, runs everything; last line: totals
#   make unit            unit tests of one flavour, in the terminal
#   make s3              on MinIO: the store contract, kills and pauses, end to end
#   make s3-matrix       the same on MinIO, Ceph and SeaweedFS; s3rver is refused
#   make lint            layers, format, clang-tidy; make fmt repairs the format
#   make vector-recall   vector search against exact search, on data of all kinds
#   make text-random | lucene   long comparisons of full-text search
#   make cluster         MinIO, indexers, query nodes, nginx as local processes, until Ctrl-C
#   make cluster-test    the deployment guide and faults on such a cluster; LONG=1: for long;
#                        STORE=radosgw: on Ceph
#   make check-history   what clients saw, against one register a document; broken programs
#   make model | sim | crash-sweep | crash-kill | powerfail | query-random   the proofs (docs/testing.md)
#   make soak | churn | ingest-1m   half an hour of mixed load with kills; the same ids
#                        written over and over; a million documents
#   make corrupt | ioerr | oom   every bit of every stored file damaged; every call to the
#                        system, every allocation failing (docs/testing.md)
#   make http-abuse | api-abuse   hostile clients, while its health is asked for
#   make valgrind        memcheck on the unit tests
#   make fuzz-plateau       all readers of untrusted bytes, until nothing new is reached
#   make fuzz T=manifest    looks for inputs that a decoder or parser cannot bear
#   make deb             build/elacsym_VERSION_ARCH.deb
#   make bench           all benchmarks; make bench-json one of them
#   make SAN=address,undefined TARGET | make SAN=thread TARGET    in another flavour
# Add a file to src/*/ or tests/unit/test_*.c and it is built and run. A folder tests/X
# with run_X.c becomes the program build/FLAVOUR/tests/run_X; add it to PROOFS to have
# make test run it.

CC := gcc
CXX := g++
SAN ?=
comma := ,
FLAVOUR := $(if $(SAN),$(subst $(comma),-,$(SAN)),release)
B := build/$(FLAVOUR)

WARN := -Wall -Wextra -Wconversion -Wsign-conversion -Wpointer-arith -Wcast-qual \
  -Wcast-align=strict -Wwrite-strings -Wundef -Wformat=2 -Wno-format-zero-length \
  -Wimplicit-fallthrough=5 -Wduplicated-cond -Wduplicated-branches -Wlogical-op \
  -Wdouble-promotion
CWARN := -Wpedantic -Wshadow -Wvla -Wnull-dereference -Wstrict-prototypes -Wmissing-prototypes \
  -Wold-style-definition -Wjump-misses-init
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong
OPT := $(if $(SAN),-O1 -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all,-O2 $(HARDEN))
WERROR := $(if $(CI),-Werror)
INCLUDES := -Isrc -Itests -D_GNU_SOURCE
CFLAGS_ALL := -std=c17 $(INCLUDES) -g -fPIE $(OPT) $(WARN) $(CWARN) $(CFLAGS)
CXXFLAGS_ALL := -std=c++17 $(INCLUDES) -g -fPIE $(OPT) $(WARN) $(CXXFLAGS)
LDFLAGS_ALL := $(if $(SAN),-fsanitize=$(SAN)) -pie -Wl,-z,relro,-z,now $(LDFLAGS)
# Of the program alone: sanitizers bring their own, tests count with libc's.
MALLOC := $(if $(SAN),,-ljemalloc)
LIBS := -lcurl -lcrypto -lexpat -lsimdjson -lroaring -lstemmer -licuuc -lzstd -lxxhash -lz -lm -lpthread

# Some files are compiled for one instruction set and entered only after simd_level said
# so; no exception leaves the C++ files of base.
ARCH := $(shell uname -m)
ifeq ($(ARCH),x86_64)
isa = $(if $(filter %_avx2.c,$1),-mavx2 -mfma)$(if $(filter %_avx512.c,$1),-mavx512f \
  -mavx512bw -mavx512vl -mavx512dq -mfma)$(if $(filter %/rabitq_avx512.c,$1), -mavx512vbmi \
  -mavx512vnni)
endif
file_flags = $(strip $(call isa,$1) $(if $(filter src/base/%.cpp,$1),-fno-exceptions))

SRC_C := $(filter-out src/main.c,$(sort $(wildcard src/*/*.c)))
SRC_CC := $(sort $(wildcard src/*/*.cpp))
OBJ := $(SRC_C:%.c=$(B)/%.o) $(SRC_CC:%.cpp=$(B)/%.o)
LIB := $(B)/libelacsym.a
UNIT_NAMES := $(patsubst tests/unit/%.c,%,$(sort $(wildcard tests/unit/test_*.c)))
# Seconds or minutes of work in one thread: nothing for a thread sanitizer to watch. The
# linker sees to it that they start none.
THREADLESS := test_api_v1_query test_api_v1_write test_attr_filter test_clusters \
  test_column test_gather test_http_parse test_ivf test_ns_formats test_powerfail test_query \
  test_query_plan test_query_random test_rabitq test_registry_time test_relevance \
  test_rotate test_rowset test_segment_ahead test_segment_damage test_segment_nearest \
  test_segment_stats test_segment_terms test_sim test_text_index test_text_query test_value
UNIT := $(addprefix $(B)/tests/,$(filter-out $(if $(filter thread,$(SAN)),$(THREADLESS)),\
  $(UNIT_NAMES)))
PROGRAM_FOLDERS := $(foreach d,$(notdir $(patsubst %/,%,$(wildcard tests/*/))),\
  $(if $(wildcard tests/$d/run_$d.c),$d))
PROGRAMS := $(PROGRAM_FOLDERS:%=$(B)/tests/run_%)
BENCH := $(patsubst %.c,$(B)/%,$(sort $(wildcard bench/bench_*.c)))
EVERY_SOURCE := $(sort $(wildcard src/*.c src/*/*.c src/*/*.cpp src/*/*.h tests/*/*.c \
  tests/*/*.h bench/*.c bench/*.cpp bench/*.h))

.PHONY: all tests unit test run lint layers format tidy fmt bench clean FORCE
.SECONDARY:
.DELETE_ON_ERROR:
all: $(B)/elacsym

$(B)/elacsym: $(B)/src/main.o $(LIB)
	$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(MALLOC) $(LIBS)

$(LIB): $(OBJ)
	@rm -f $@
	ar rcs $@ $^

# Other flags than last time: everything is compiled again. -Werror does not count.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CXX) $(CFLAGS_ALL) $(CXXFLAGS_ALL)' | cmp -s - $@ || \
	  echo '$(CC) $(CXX) $(CFLAGS_ALL) $(CXXFLAGS_ALL)' > $@

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(WERROR) $(call file_flags,$<) -MMD -MP -c -o $@ $<

$(B)/%.o: %.cpp $(B)/flags
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS_ALL) $(WERROR) $(call file_flags,$<) -MMD -MP -c -o $@ $<

# ---- tests ----

$(B)/tests/test_%: $(B)/tests/unit/test_%.o $(LIB)
	$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIB) -lcmocka $(LIBS)

program_objects = $(patsubst %.c,$(B)/%.o,$(sort $(wildcard tests/$1/*.c)))
define PROGRAM_RULE
$(B)/tests/run_$1: $(call program_objects,$1) $(LIB)
	$(CXX) $$(LDFLAGS_ALL) -o $$@ $$(filter %.o,$$^) $(LIB) $(LIBS)
endef
$(foreach d,$(PROGRAM_FOLDERS),$(eval $(call PROGRAM_RULE,$d)))

$(THREADLESS:%=$(B)/tests/%): $(B)/tests/unit/threadless.o
$(THREADLESS:%=$(B)/tests/%): LDFLAGS_ALL += -Wl,--wrap=pthread_create

# The simulator's runtime, for whoever runs real code on it.
SIM := $(B)/tests/sim/sim.o $(B)/tests/sim/store_sim.o
$(B)/tests/test_sim $(B)/tests/test_s3_watch $(B)/tests/test_registry_time: $(SIM)
# A node without sockets, for whoever asks thousands of them.
$(B)/tests/run_corrupt: $(B)/tests/engine/engine.o
# … and whose calls to the system fail when they should.
$(B)/tests/run_ioerr: $(B)/tests/engine/engine.o
$(B)/tests/run_ioerr: LDFLAGS_ALL += $(addprefix -Wl$(comma)--wrap=,open openat __openat_2 read pread \
  preadv write pwrite pwritev fsync fdatasync linkat unlinkat mkdir mkdirat fstat stat fstatat \
  fstatvfs ftruncate fallocate posix_fallocate mmap fdopendir readdir pthread_create)
$(B)/tests/run_fault: $(SIM) $(B)/tests/sim/ledger.o $(B)/tests/sim/node.o

# The proofs by name: the protocol's model, whole clusters, every point of death, kill -9
# of a real process, every prefix of what reached the disk.
.PHONY: model sim crash-sweep crash-kill powerfail query-random soak churn ingest-1m
model: $(B)/tests/run_model
	$< $(if $(FULL),--full)
sim: $(B)/tests/run_sim
	$< $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED))
crash-sweep: $(B)/tests/run_fault
	$<
crash-kill: all
	@tools/setup.sh test
	$(if $(S3),$(S3_TEST) --only crash $(S3_KILLS) minio,\
	  $(CRASH_KILL) --program $(B)/elacsym $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)))
powerfail: $(B)/tests/test_powerfail
	$<
soak: all
	@tools/setup.sh test
	$(VENV) tests/soak/soak.py --program $(B)/elacsym --minutes $(or $(MINUTES),30) \
	  $(if $(SEED),--seed $(SEED)) $(ARGS)
# The same 50,000 ids written and deleted over and over.
churn: all
	@tools/setup.sh test
	$(VENV) tests/soak/churn.py --program $(B)/elacsym $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(SEED),--seed $(SEED)) $(ARGS)
# A million documents with vectors, text and attributes over HTTP, with queries beside it.
ingest-1m: all
	@tools/setup.sh test
	$(VENV) bench/bench_ingest.py --count $(or $(N),1000000) --folder build $(ARGS)
.PHONY: corrupt
corrupt: $(B)/tests/run_corrupt
	$< $(if $(STRIDE),--stride $(STRIDE)) $(if $(SEED),--seed $(SEED)) $(if $(T),--only $(T))
.PHONY: http-abuse api-abuse
http-abuse api-abuse: all
	@tools/setup.sh test
	$(ABUSE)/test_$(subst -,_,$@).py -s --long $(if $(SEED),--seed $(SEED))
.PHONY: ioerr oom
ioerr oom: $(B)/tests/run_ioerr
	$< $(if $(filter oom,$@),--memory) $(if $(STRIDE),--stride $(STRIDE)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(T),--only $(T))

# What clients recorded, against one register per document; and programs broken on purpose,
# each by one edited file that is linked before the library, whose histories must not pass.
.PHONY: check-history
check-history: all
	@tools/setup.sh test
	$(PYTEST) tests/history
	mkdir -p $(B)/history
	$(VENV) tests/history/broken.py --keep $(B)/history/broken.jsonl $(if $(SEED),--seed $(SEED))
	$(CRASH_KILL) --program $(B)/elacsym --kills $(or $(KILLS),30) --history $(B)/history/kills.jsonl
	$(VENV) tests/history/history.py $(B)/history/*.jsonl
$(B)/broken/%: $(B)/broken/%.c $(LIB) $(B)/src/main.o
	$(CC) $(CFLAGS_ALL) -w -c -o $@.o $<
	$(CXX) $(LDFLAGS_ALL) -o $@ $(B)/src/main.o $@.o $(LIB) $(MALLOC) $(LIBS)

query-random: $(B)/tests/test_query_random
	ELACSYM_QUERIES=$(or $(QUERIES),60000) $(if $(SEED),ELACSYM_SEED=$(SEED)) $<

# libFuzzer on one reader of untrusted bytes; what it finds worth keeping stays in
# build/fuzz/corpus. make fuzz T=manifest SECONDS=600; names: run_fuzz --list.
# make fuzz-plateau takes all of them in turn (or T), each until it reached nothing new for
# three minutes.
SECONDS ?= 60
# The words that a target's inputs are made of; of JSON bodies they are the same.
FUZZ_WORDS = $(wildcard tests/fuzz/words/$(if $(filter json %_body,$(T)),body,$(T)))
.PHONY: fuzz fuzz-plateau fuzz-build
fuzz-build: $(B)/tests/run_fuzz
	@$(MAKE_ALL) SAN=fuzzer-no-link,address,undefined B=build/fuzz CC=clang-14 CXX=clang++-14 \
	  CFLAGS='-DFUZZ_LIBFUZZER -Wno-unknown-warning-option' \
	  CXXFLAGS=-Wno-unknown-warning-option LDFLAGS=-fsanitize=fuzzer build/fuzz/tests/run_fuzz
	@for t in $(or $(T),$$($< --list)); do mkdir -p build/fuzz/corpus/$$t; \
	  $< --target $$t --write build/fuzz/corpus/$$t || exit 1; done

fuzz: $(B)/tests/run_fuzz
	@[ -n "$(T)" ] || { echo 'make fuzz T=NAME [SECONDS=60]; names:'; $< --list; exit 2; }
	@$(MAKE) -s fuzz-build T=$(T)
	cd build/fuzz && FUZZ_TARGET=$(T) tests/run_fuzz -max_total_time=$(SECONDS) \
	  -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
	  $(FUZZ_WORDS:%=-dict=$(CURDIR)/%) corpus/$(T)

fuzz-plateau: fuzz-build
	@tools/fuzz_plateau.py build/fuzz $(or $(T),$$($(B)/tests/run_fuzz --list))

# Full text: 10,000 random queries on each collection against a loop over all its words,
# and our scores beside Lucene's (Debian's liblucene8-java).
.PHONY: vector-recall
vector-recall: $(B)/tests/run_recall
	@$< --queries $(or $(QUERIES),1000) --rows $(or $(ROWS),300000)

.PHONY: text-random lucene
text-random: $(B)/tests/test_text_query
	ELACSYM_TEXT_QUERIES=$(or $(QUERIES),10000) $<
lucene: $(B)/tests/run_lucene
	$< $(QUERIES)

# Real S3 servers on loopback, installed on first use. A server that cannot be had here is
# one skipped test and a line "NOT RUN".
.PHONY: s3 s3-matrix
S3_TEST := tools/s3_test.py
S3_KILLS = $(if $(KILLS),--kills $(KILLS)) $(if $(PAUSES),--pauses $(PAUSES))
s3 s3-matrix: build/release/elacsym build/release/tests/test_store_s3
	@tools/setup.sh test
	$(S3_TEST) $(S3_KILLS) minio \
	  $(if $(filter s3-matrix,$@),radosgw seaweedfs s3rver)

# A whole cluster as local processes, on MinIO where Go can install it.
.PHONY: cluster cluster-test
cluster: all
	@tools/setup.sh test
	@tools/s3_server.sh install || true
	@exec $(VENV) tests/cluster/cluster.py $(ARGS)
cluster-test: all
	@tools/setup.sh test
	@tools/s3_server.sh install || true
	$(if $(STORE),eval "$$(tools/s3_server.sh $(STORE))" && trap 'tools/s3_server.sh stop' EXIT &&) \
	  $(CLUSTER) -s $(if $(STORE),--store given) $(if $(LONG),--long) \
	  $(if $(SEED),--seed $(SEED)) $(ARGS)

tests: $(UNIT) $(PROGRAMS) $(if $(SAN),,$(BENCH))

unit: $(UNIT)
	@failed=0; for t in $(UNIT); do $$t || failed=1; done; exit $$failed

# gcc 12's TSan cannot start where the kernel scatters addresses widely.
STILL := $(shell setarch -R true 2>/dev/null && echo setarch -R)
VENV := build/venv/bin/python
PYTEST := $(VENV) -m pytest -q -rs
CRASH_KILL := $(VENV) tests/crash/crash_kill.py
CLUSTER := $(PYTEST) tests/cluster
E2E := $(PYTEST) tests/e2e
ABUSE := $(PYTEST) tests/abuse
# The whole server under the sanitizers too, without the large collections.
E2E_SAN := $(E2E) --ignore tests/e2e/test_collections.py --ignore tests/e2e/test_s3_trouble.py

# memcheck on the unit tests, at whose pace floating point takes 200 times as long.
VALGRIND := valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
  --show-leak-kinds=definite --fair-sched=yes --suppressions=tests/valgrind.supp
MEMCHECK_FIRST = $(addprefix $(B)/tests/,test_query_plan test_segment_damage test_ivf \
  test_segment_nearest test_text_index test_text_query test_registry test_clusters)
.PHONY: valgrind memcheck
# With the sizes of the sanitizers' tests, in some places smaller ones (BY_VALGRIND).
valgrind:
	@command -v valgrind >/dev/null || { echo "make valgrind needs Debian's valgrind"; exit 2; }
	@$(MAKE_ALL) B=build/memcheck CFLAGS=-DUNDER_VALGRIND memcheck
memcheck: $(UNIT)
	@tools/run_tests.py --jobs $(shell nproc) --timeout 3600 \
	  $(foreach t,$(MEMCHECK_FIRST) $(filter-out $(MEMCHECK_FIRST),$(UNIT)), \
	    --test 'env ELACSYM_SIMD=avx2 $(VALGRIND) $t')

# What make test runs besides the unit tests; each program's last line is
# "N passed, N failed[, N skipped]". The longest come first.
WITH = env ELACSYM_BINARY=$(CURDIR)/build/$1/elacsym
PROOFS := --test '$(call WITH,thread) TSAN_OPTIONS=halt_on_error=1 $(STILL) $(E2E_SAN)' \
  --test '$(E2E)' --test '$(S3_TEST) minio' \
  --test '$(call WITH,address-undefined) $(E2E_SAN)' \
  --test 'build/release/tests/run_sim --seeds 10000' \
  --test 'build/release/tests/run_lucene 200' \
  --test build/release/tests/run_model --test build/release/tests/run_fault \
  --test 'build/release/tests/run_corrupt --stride 97' \
  --test 'build/address-undefined/tests/run_corrupt --stride 997' \
  --test 'build/release/tests/run_ioerr --stride 29' \
  --test 'build/release/tests/run_ioerr --memory --stride 97' \
  --test 'build/address-undefined/tests/run_ioerr --stride 181' \
  --test 'build/release/tests/run_fuzz --rounds 20000' \
  --test 'build/address-undefined/tests/run_fuzz --rounds 5000'
# Other nodes and clients wait for those that are late.
PROOFS_ALONE := --alone '$(CRASH_KILL)' --alone '$(CLUSTER)' \
  --alone '$(PYTEST) tests/history' --alone '$(ABUSE)' \
  --alone '$(call WITH,address-undefined) $(ABUSE)' \
  --alone '$(call WITH,address-undefined) $(CLUSTER)/test_guide.py'
# Those with minutes in them before the others.
LONGEST := test_s3_faults test_ivf test_registry_index test_registry_open test_segment \
  test_query_random
UNIT_LONG_FIRST := $(filter $(LONGEST),$(UNIT_NAMES)) $(filter-out $(LONGEST),$(UNIT_NAMES))

MAKE_ALL := $(MAKE) -s -j$(shell nproc)

test:
	@tools/setup.sh test
	@tools/run_tests.py \
	  --build '$(MAKE_ALL) all tests' \
	  --build '$(MAKE_ALL) SAN=address,undefined all tests' \
	  --build '$(MAKE_ALL) SAN=thread all tests' \
	  --check '$(MAKE_ALL) layers' --check '$(MAKE_ALL) format' \
	  --check '$(MAKE_ALL) tidy' $(PROOFS) \
	  $(foreach t,$(UNIT_LONG_FIRST),$(if $(filter $t,$(THREADLESS)),, \
	      --test '$(STILL) build/thread/tests/$t') \
	    --test build/address-undefined/tests/$t --test build/release/tests/$t) \
	  $(PROOFS_ALONE)

# ---- running ----

run:
	@tools/setup.sh run
	@$(MAKE_ALL) all
	@exec build/release/elacsym $(ARGS)

# A Debian package: program, systemd unit, man page, completion, docs.
.PHONY: deb
deb: all
	@tools/make_deb.sh

# ---- habits ----

lint: layers format tidy

layers:
	tools/layers.py

format:
	clang-format-14 --dry-run -Werror $(EVERY_SOURCE)

fmt:
	clang-format-14 -i $(EVERY_SOURCE)

# clang-tidy looks again at a file when it or a header of it changed: whenever its
# release object is newer than the stamp.
TIDY := $(patsubst %,build/tidy/%.ok,$(wildcard src/*.c) $(SRC_C) $(SRC_CC))
tidy: $(TIDY)

define TIDY_RULE
build/tidy/%$1.ok: build/release/%.o .clang-tidy compile_commands.json
	@mkdir -p $$(@D)
	clang-tidy-14 --quiet -p . $$*$1 2>$$@.log || { cat $$@.log; exit 1; }
	@touch $$@
endef
$(eval $(call TIDY_RULE,.c))
$(eval $(call TIDY_RULE,.cpp))

# For editors and clang-tidy: the flags that clang knows.
entry = {"directory":"$(CURDIR)","file":"$1","command":"clang $2 $(INCLUDES) -Wall \
  -Wextra $(call file_flags,$1) -c $1"}
compile_commands.json: Makefile $(EVERY_SOURCE)
	@{ echo '['; printf '%s,\n' \
	  $(foreach f,$(filter %.c,$(EVERY_SOURCE)),'$(call entry,$f,-std=c17)') \
	  $(foreach f,$(filter %.cpp,$(EVERY_SOURCE)),'$(call entry,$f,-std=c++17)') \
	  | sed '$$s/,$$//'; echo ']'; } > $@

# ---- benchmarks: ratios to a peer in the same run, for machines are noisy ----

$(B)/bench/%: $(B)/bench/%.o $(LIB)
	$(CXX) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIB) $(LIBS)
$(B)/bench/bench_json: $(B)/bench/bench_json_dom.o
$(B)/bench/bench_idle $(B)/bench/bench_churn $(B)/bench/bench_merge: $(B)/bench/namespaces.o

bench: all $(BENCH)
	@tools/setup.sh test
	@for b in $(BENCH); do echo "== $$b"; $$b || exit 1; done
	@for b in bench/*.py; do echo "== $$b"; $(VENV) $$b || exit 1; done
bench-%: $(B)/bench/bench_%
	@$<
# With the peers beside it: bench/bench_text_peers.py says which and how.
bench-text: $(B)/bench/bench_text $(B)/elacsym
	@python3 bench/bench_text_peers.py $(QUERIES)
# With the libraries of others beside us, as far as build/venv has them.
bench-vector: $(B)/bench/bench_vector
	@tools/setup.sh test
	@$(VENV) bench/bench_vector_peers.py
# Query times while segments merge, beside those of the idle node.
bench-throttle: all
	@tools/setup.sh test
	@$(VENV) bench/bench_throttle.py --folder build $(ARGS)

clean:
	rm -rf build compile_commands.json

-include $(patsubst %.o,%.d,$(OBJ) $(B)/src/main.o $(UNIT:$(B)/tests/%=$(B)/tests/unit/%.o) \
  $(foreach d,$(PROGRAM_FOLDERS) engine,$(call program_objects,$d)) \
  $(B)/tests/unit/threadless.o $(BENCH:%=%.o) $(B)/bench/bench_json_dom.o $(B)/bench/namespaces.o)
