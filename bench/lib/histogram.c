#include "histogram.h"

static unsigned bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_SUB)
        return (unsigned)ns;
    const unsigned exponent = 63 - (unsigned)__builtin_clzll(ns);
    return (exponent - HISTOGRAM_BITS + 1) * HISTOGRAM_SUB +
           (unsigned)(ns >> (exponent - HISTOGRAM_BITS) & (HISTOGRAM_SUB - 1));
}

static uint64_t upper_end(unsigned bucket)
{
    if (bucket < HISTOGRAM_SUB)
        return bucket;
    const unsigned exponent = bucket / HISTOGRAM_SUB + HISTOGRAM_BITS - 1;
    return (UINT64_C(1) << exponent) + ((uint64_t)(bucket % HISTOGRAM_SUB + 1) << (exponent - HISTOGRAM_BITS)) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->counts[bucket_of(ns)]++;
    histogram->total++;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        histogram->counts[i] += other->counts[i];
    histogram->total += other->total;
}

uint64_t histogram_percentile(const struct histogram *histogram, double fraction)
{
    uint64_t left = (uint64_t)((double)histogram->total * fraction), last = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram->counts[i] > left)
            return upper_end(i);
        left -= histogram->counts[i];
        if (histogram->counts[i])
            last = upper_end(i);
    }
    return last;
}
