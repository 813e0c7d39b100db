/* Latencies in nanoseconds, in log-linear buckets as HdrHistogram has them, so that memory does not grow and every
 * percentile is within 1/64 of the truth. */
#ifndef REEVE_BENCH_HISTOGRAM_H
#define REEVE_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 6
#define HISTOGRAM_SUB (1 << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS (64 * HISTOGRAM_SUB)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS], total;
};

void histogram_add(struct histogram *histogram, uint64_t ns);
void histogram_merge(struct histogram *histogram, const struct histogram *other);
/* The value that `fraction` of all are not above. */
uint64_t histogram_percentile(const struct histogram *histogram, double fraction);

#endif
