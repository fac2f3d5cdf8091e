// One row of a walk: what drun.diffusion computes on the host between two network calls, on a device.
//
// Guidance, the clean image, clipping, the sampler's update, its noise, and the network's next input; the formulas are
// those of drun/diffusion/{guidance,loop,table,noise}.py, in the same order of roundings. NVRTC compiles this file for
// GPUs, without contraction of multiply and add; dbench compiles it for the processor.

typedef unsigned long long u64;
typedef long long i64;

// The numbers of a walk, which stay the same from row to row. drun/device/layout.py has the same fields.
struct Walk {
    const float* table;     // (rows, COLUMNS + history)
    const int* draws;       // (rows): the number of the draw that a row takes from its samples' streams; 0: none
    const u64* samples;     // (count): the samples' numbers, which key their streams
    const float* uploaded;  // (slots, count, size): draw k lies in slot k % slots; null: noise is made here
    const float* output;    // (count or 2 count, out_channels, pixels): of the network; guided rows have 2 count
    float* x;               // (2 count, size): the states, and again where the next row is guided
    float* t;               // (2 count): the model time of the next call
    float* history;         // (history, count, size): row r wrote its estimate to place r % history
    u64 seed;
    int rows, history_length, slots, clips;
    int count, channels, out_channels, guided_channels, pixels;
};

// What changes from row to row.
struct Position {
    int row;         // that the network computes, or whose output waits; -1 before the first
    int not_finite;  // whether a state has been NaN or infinity
};

// The columns of the table; the weights of earlier estimates follow, the newest first.
enum { T, P, Q, A, B, C, W, LOG_STD_SLOPE, LOG_STD_OFFSET, COLUMNS };

// ---- noise ----------------------------------------------------------------------------------------------

// Four words of Philox4x64-10 (Salmon et al. 2011).
__device__ void philox(u64 seed, u64 sample, u64 counter, u64 words[4]) {
    u64 key0 = seed, key1 = sample;
    u64 a = counter, b = 0, c = 0, d = 0;
    for (int round = 0; round < 10; ++round) {
        const u64 high_a = __umul64hi(0xD2E7470EE14C6C93, a), low_a = 0xD2E7470EE14C6C93 * a;
        const u64 high_c = __umul64hi(0xCA5A826395121157, c), low_c = 0xCA5A826395121157 * c;
        a = high_c ^ b ^ key0;
        b = low_c;
        c = high_a ^ d ^ key1;
        d = low_a;
        key0 += 0x9E3779B97F4A7C15;
        key1 += 0xBB67AE8584CAA73B;
    }
    words[0] = a, words[1] = b, words[2] = c, words[3] = d;
}

__device__ double uniform(u64 word) { return ((double)(word >> 11) + 0.5) * 0x1p-53; }

// Two words to two normals (Box & Muller 1958).
__device__ void box_muller(u64 word0, u64 word1, float* normals) {
    const double radius = sqrt(log(uniform(word0)) * -2.0);
    const double angle = uniform(word1) * 6.283185307179586;
    normals[0] = (float)(radius * cos(angle));
    normals[1] = (float)(radius * sin(angle));
}

// ---- a row ----------------------------------------------------------------------------------------------

// An output of the network, guided where the row asks for it.
__device__ float guided(const Walk* walk, float w, i64 sample, int channel, int pixel) {
    const i64 place = (sample * walk->out_channels + channel) * walk->pixels + pixel;
    const float conditional = walk->output[place];
    if (w == 1 || channel >= walk->guided_channels) return conditional;
    const float unconditional = walk->output[place + (i64)walk->count * walk->out_channels * walk->pixels];
    return (conditional - unconditional) * w + unconditional;
}

// The next state at an element of a sample.
__device__ float updated(const Walk* walk, int row, const float* columns, int sample, int element, float z) {
    const int channel = element / walk->pixels, pixel = element % walk->pixels;
    const int length = walk->history_length;
    const i64 size = walk->channels * walk->pixels, all = walk->count * size, place = sample * size + element;
    const float x = walk->x[place];
    float h = columns[Q] * guided(walk, columns[W], sample, channel, pixel);
    if (columns[P] != 0) h += columns[P] * x;
    if (walk->clips) h = h < -1 ? -1 : h > 1 ? 1 : h;
    float next = columns[A] * x;
    next += columns[B] * h;
    for (int back = 1; back <= length; ++back)
        next += columns[COLUMNS + back - 1] * walk->history[(row - back + length) % length * all + place];
    if (length) walk->history[row % length * all + place] = h;
    if (walk->draws[row] == 0) return next;
    const float slope = columns[LOG_STD_SLOPE];
    if (slope != slope) return next + columns[C] * z;  // NaN: the variance is not learned
    const float v = guided(walk, 1, sample, walk->channels + channel, pixel);
    return next + expf(v * slope + columns[LOG_STD_OFFSET]) * z;
}

// Four words of a stream at once, the first of which belongs to element `first` of a draw; z: the four normals.
__device__ void draw_noise(const Walk* walk, int draw, int sample, i64 first, float z[4]) {
    const i64 size = walk->channels * walk->pixels;
    if (walk->uploaded) {
        const float* slot = walk->uploaded + (draw % walk->slots * (i64)walk->count + sample) * size;
        for (int k = 0; k < 4; ++k) z[k] = 0 <= first + k && first + k < size ? slot[first + k] : 0;
        return;
    }
    u64 words[4];
    philox(walk->seed, walk->samples[sample], 1 + (draw * (size + size % 2) + first) / 4, words);
    box_muller(words[0], words[1], z);
    box_muller(words[2], words[3], z + 2);
}

// The update of a row after the network's call: a thread for four words of a stream, a block row for a sample.
extern "C" __global__ void update(const Walk* walk, Position* place) {
    const int row = place->row, draw = walk->draws[row], sample = blockIdx.y;
    const int width = COLUMNS + walk->history_length;
    const float* columns = walk->table + (i64)row * width;
    const i64 size = walk->channels * walk->pixels;
    const i64 skipped = draw * (size + size % 2) % 4;  // words of the earlier draw in the draw's first four
    const i64 first = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 4 - skipped;
    if (first >= size) return;
    float z[4];
    if (draw) draw_noise(walk, draw, sample, first, z);
    const bool doubles = row + 1 < walk->rows && columns[width + W] != 1;
    for (int k = 0; k < 4; ++k) {
        const i64 element = first + k;
        if (element < 0 || element >= size) continue;
        const float next = updated(walk, row, columns, sample, element, z[k]);
        walk->x[sample * size + element] = next;
        if (doubles) walk->x[(walk->count + sample) * size + element] = next;
        if (!(next - next == 0)) place->not_finite = 1;
    }
}

// Go to the next row: one thread, after all of `update`, and once before the first row.
extern "C" __global__ void advance(const Walk* walk, Position* place) {
    const int row = ++place->row;
    if (row == walk->rows) return;
    for (int i = 0; i < 2 * walk->count; ++i) walk->t[i] = walk->table[(i64)row * (COLUMNS + walk->history_length) + T];
}
