// A processor in the place of a GPU: the kernel of drun/device/step.cu, its threads one after the other.

#include <cmath>

using std::cos, std::log, std::sin, std::sqrt;

#define __device__ static inline
#define __global__

struct Index {
    unsigned x, y;
};
static thread_local Index blockIdx, blockDim, threadIdx;

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}

#include "step.cu"

static const unsigned threads = 128;

extern "C" void run_update(const Walk* walk, Position* place, unsigned blocks, unsigned samples) {
    blockDim.x = threads;
    for (blockIdx.y = 0; blockIdx.y < samples; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
            for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) update(walk, place);
}

extern "C" void run_advance(const Walk* walk, Position* place) { advance(walk, place); }

extern "C" void four_words(u64 seed, u64 sample, u64 counter, u64* words) { philox(seed, sample, counter, words); }

extern "C" int size_of_walk() { return sizeof(Walk); }

extern "C" int num_columns() { return COLUMNS; }
