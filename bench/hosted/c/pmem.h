/* What the loops over libpmemobj share. Each function gives 0, or -1 with libpmemobj's message on stderr. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <libpmemobj.h>

#define LAYOUT "twizzler-bench"

/* Processor time of this thread, as `clock.rs` has it. */
static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline int failed(const char *what) {
    fprintf(stderr, "libpmemobj: %s: %s\n", what, pmemobj_errormsg());
    return -1;
}
