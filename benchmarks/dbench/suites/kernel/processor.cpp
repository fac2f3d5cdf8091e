// A processor in the place of a GPU: the kernel of drun/device/step.cu, a thread for some of its blocks.

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

extern "C" void run_update(const Walk* walk, Position* position, unsigned blocks, unsigned samples,
                           unsigned block_size, int threads) {
#pragma omp parallel for collapse(2) num_threads(threads)
    for (unsigned sample = 0; sample < samples; ++sample)
        for (unsigned block = 0; block < blocks; ++block) {
            blockDim.x = block_size, blockIdx.x = block, blockIdx.y = sample;
            for (threadIdx.x = 0; threadIdx.x < block_size; ++threadIdx.x) update(walk, position);
        }
}

extern "C" void run_advance(const Walk* walk, Position* place) { advance(walk, place); }

extern "C" void four_words(u64 seed, u64 sample, u64 counter, u64* words) { philox(seed, sample, counter, words); }

extern "C" int size_of_walk() { return sizeof(Walk); }

extern "C" int num_columns() { return COLUMNS; }
