# elacsym: one Makefile, a folder per flavour.
#   make            build/release/elacsym
#   make run        installs what is missing, builds, serves on local storage
#   make test       installs what tests need, builds, runs everything
#   make SAN=address,undefined | SAN=thread   the same in another flavour

CC ?= gcc
CXX ?= g++
SAN ?=
comma := ,
FLAVOUR := $(if $(SAN),$(subst $(comma),-,$(SAN)),release)
B := build/$(FLAVOUR)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wpointer-arith \
  -Wcast-qual -Wcast-align=strict -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wno-format-zero-length \
  -Wnull-dereference -Wimplicit-fallthrough=5 -Wduplicated-cond -Wduplicated-branches \
  -Wlogical-op -Wdouble-promotion
CWARN := -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wjump-misses-init
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
OPT := $(if $(SAN),-O1 -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all,-O2 $(HARDEN))
WERROR := $(if $(CI),-Werror)
CPPFLAGS += -Isrc -Itests -D_GNU_SOURCE -MMD -MP
CFLAGS_ALL := -std=c17 -g $(OPT) $(WARN) $(CWARN) $(WERROR) $(CFLAGS)
CXXFLAGS_ALL := -std=c++17 -g $(OPT) -Wall -Wextra $(WERROR) $(CXXFLAGS)
LDFLAGS_ALL := $(if $(SAN),-fsanitize=$(SAN),-pie -Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now) $(LDFLAGS)
LIBS := -lmicrohttpd -lsimdjson -lroaring -lstemmer -licuuc -lzstd -lxxhash -lz -lm -lpthread

SRC_C := $(filter-out src/main.c,$(sort $(wildcard src/*/*.c)))
SRC_CC := $(sort $(wildcard src/*/*.cpp))
OBJ := $(SRC_C:%.c=$(B)/%.o) $(SRC_CC:%.cpp=$(B)/%.o)
LIB := $(B)/libelacsym.a
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(sort $(wildcard tests/unit/test_*.c)))

# Files compiled for one instruction set; they are entered only after simd_level said so.
ARCH := $(shell uname -m)
ifeq ($(ARCH),x86_64)
$(B)/src/vec/%_avx2.o: ISA := -mavx2 -mfma
$(B)/src/vec/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma
endif

.PHONY: all unit test run lint fmt clean
all: $(B)/elacsym

$(B)/elacsym: $(B)/src/main.o $(LIB)
	$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(LIB): $(OBJ)
	@rm -f $@
	ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS_ALL) $(ISA) -c -o $@ $<

$(B)/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) $(CXXFLAGS_ALL) -c -o $@ $<

$(B)/tests/%: $(B)/tests/unit/%.o $(LIB)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS_ALL) -o $@ $(filter-out $(LIB),$^) $(LIB) -lcmocka $(LIBS)

# build/release/bench/bench_X prints its table; machines are noisy, so ratios count.
$(B)/bench/%: $(B)/bench/%.o $(LIB)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

unit: $(UNIT)
	@failed=0; for t in $(UNIT); do $$t || failed=1; done; exit $$failed

# The commit protocol as a model, explored: see tests/model/run_model.c.
MODEL_OBJ := $(B)/tests/model/run_model.o $(B)/tests/model/commit_model.o \
  $(B)/tests/model/explore.o
$(B)/tests/run_model: $(MODEL_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# The simulator: real code on fibers in virtual time (tests/sim/sim.h).
SIM_OBJ := $(B)/tests/sim/sim.o $(B)/tests/sim/store_sim.o
$(B)/tests/test_sim: $(SIM_OBJ)

.PHONY: model
model: $(B)/tests/run_model
	$< $(if $(FULL),--full)

clean:
	rm -rf build

-include $(OBJ:.o=.d) $(B)/src/main.d $(UNIT:$(B)/tests/%=$(B)/tests/unit/%.d) \
  $(MODEL_OBJ:.o=.d) $(SIM_OBJ:.o=.d)
