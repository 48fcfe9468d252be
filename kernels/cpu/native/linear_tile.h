// The innermost product: up to kMaxTile rows by one panel over a block of channels, sums in registers.
//
// x of a tile lies as [channel][row], so that a channel's values are broadcast from neighbouring addresses. With dot
// products of bf16 pairs in hardware a pair is one 32-bit element; elsewhere x is widened to fp32 when it is packed, and a
// pair is added as two fused steps, the second channel first, which is the order of the hardware. With tile registers x lies
// as [32 channels][row][channel].
#pragma once
#include <cstring>

#include "linear.h"
#include "tiles.h"
#include "transpose.h"
#include "vec.h"

namespace baton {

#if defined(__AVX512F__)
constexpr int kVectorTile = 14;  // 28 sums, 2 weights, 1 or 2 broadcasts: all 32 registers
#elif defined(__AVX2__)
constexpr int kVectorTile = 3;  // 12 sums of 16 registers
#else
constexpr int kVectorTile = 2;
#endif

template <Type type>
constexpr bool kTiled = type == Type::kBf16 && kHasTiles;

// The most rows of one tile.
template <Type type>
constexpr int kMaxTile = kTiled<type> ? 2 * kTileRows : kVectorTile;

// Bytes from a read to its prefetch while a weight is read once. Measured on Zen 4: up to two rows nothing but the
// stream counts, and more than 4,096 costs a quarter of it; from three on 6,144 saves up to a fifth, at 8 rows a seventh.
constexpr int64_t read_ahead(int64_t rows) { return rows <= 2 ? 4096 : 6144; }

#if defined(__AVX512BF16__)
constexpr bool kHasPairs = true;
#else
constexpr bool kHasPairs = false;
#endif

// Bytes of one packed x per channel.
template <Type type>
constexpr int64_t kXBytes = type == Type::kBf16 && (kHasPairs || kHasTiles) ? 2 : 4;

// Fetches one line into the second cache: the first one holds x. A pointer past the end is harmless.
inline void fetch(const char* line) { __builtin_prefetch(line, 0, 2); }

template <Type type, int size>
struct Sums {
    Vec left[size], right[size];

    inline void begin(const float* from, bool is_first) {
#pragma GCC unroll 16
        for (int row = 0; row < size; ++row) {
            left[row] = is_first ? zero() : load(from + row * kPanel);
            right[row] = is_first ? zero() : load(from + row * kPanel + kLanes);
        }
    }
    inline void end(float* to) const {
#pragma GCC unroll 16
        for (int row = 0; row < size; ++row) {
            store(to + row * kPanel, left[row]);
            store(to + row * kPanel + kLanes, right[row]);
        }
    }
    inline void add(Vec a, Vec b, const float* x) {
#pragma GCC unroll 16
        for (int row = 0; row < size; ++row) {
            const Vec own = fill(x[row]);
            left[row] = fma(a, own, left[row]);
            right[row] = fma(b, own, right[row]);
        }
    }
};

template <Type type, int size>
__attribute__((noinline)) void tile(const char* weights, const char* x, int64_t depth, float* sums, bool is_first,
                                    const char* ahead) {
    Sums<type, size> own;
    own.begin(sums, is_first);
    const float* wide = reinterpret_cast<const float*>(x);
    if constexpr (type == Type::kFp32) {
        for (int64_t channel = 0; channel < depth; ++channel, weights += 128, ahead += 128, wide += size) {
            fetch(ahead);
            fetch(ahead + 64);
            const float* panel = reinterpret_cast<const float*>(weights);
            own.add(load(panel), load(panel + kLanes), wide);
        }
    } else if constexpr (type == Type::kFp16) {
        for (int64_t channel = 0; channel < depth; ++channel, weights += 64, ahead += 64, wide += size) {
            fetch(ahead);
            const uint16_t* panel = reinterpret_cast<const uint16_t*>(weights);
            own.add(load_fp16(panel), load_fp16(panel + kLanes), wide);
        }
    } else {
#if defined(__AVX512BF16__)
        const uint32_t* pairs = reinterpret_cast<const uint32_t*>(x);
        for (int64_t pair = 0; pair < depth / 2; ++pair, weights += 128, ahead += 128, pairs += size) {
            fetch(ahead);
            fetch(ahead + 64);
            const __m512bh a = (__m512bh)_mm512_loadu_si512(weights), b = (__m512bh)_mm512_loadu_si512(weights + 64);
#pragma GCC unroll 16
            for (int row = 0; row < size; ++row) {
                const __m512bh pair_x = (__m512bh)_mm512_set1_epi32(static_cast<int>(pairs[row]));
                own.left[row].v = _mm512_dpbf16_ps(own.left[row].v, a, pair_x);
                own.right[row].v = _mm512_dpbf16_ps(own.right[row].v, b, pair_x);
            }
        }
#else
        for (int64_t pair = 0; pair < depth / 2; ++pair, weights += 128, ahead += 128, wide += 2 * size) {
            fetch(ahead);
            fetch(ahead + 64);
            const uint16_t* panel = reinterpret_cast<const uint16_t*>(weights);
            own.add(odd_bf16(panel), odd_bf16(panel + kPanel), wide + size);
            own.add(even_bf16(panel), even_bf16(panel + kPanel), wide);
        }
#endif
    }
    own.end(sums);
}

// The same in tile registers; depth is a multiple of 32.
inline void run_tiles(int64_t rows, const char* weights, const char* x, int64_t depth, float* sums, bool is_first,
                      const char* ahead) {
    Tiles::begin(rows);
    is_first ? Tiles::clear() : Tiles::load(sums);
    for (int64_t channel = 0; channel < depth; channel += 32, x += rows * 64, weights += 2048, ahead += 2048) {
        for (int64_t line = 0; line < 2048; line += 64) fetch(ahead + line);
        Tiles::add(x, weights);
    }
    Tiles::end(sums);
}

template <Type type, int size = kVectorTile>
inline void run_tile(int64_t rows, const char* weights, const char* x, int64_t depth, float* sums, bool is_first,
                     const char* ahead) {
    if constexpr (kTiled<type>) return run_tiles(rows, weights, x, depth, sums, is_first, ahead);
    if (rows == size) return tile<type, size>(weights, x, depth, sums, is_first, ahead);
    if constexpr (size > 1) run_tile<type, size - 1>(rows, weights, x, depth, sums, is_first, ahead);
}

// Rows of x as run_tile reads them, channels filled up with zeros to `deep`.
template <Type type>
void pack_x(const void* x, int64_t stride, int64_t rows, int64_t channels, int64_t deep, char* to) {
    if constexpr (kTiled<type>) {
        const uint16_t* from = static_cast<const uint16_t*>(x);
        for (int64_t channel = 0; channel < deep; channel += 32)
            for (int64_t row = 0; row < rows; ++row, to += 64) {
                const int64_t width = channels - channel < 32 ? channels - channel : 32;
                std::memset(to, 0, 64);
                std::memcpy(to, from + row * stride + channel, width * 2);
            }
    } else if constexpr (type == Type::kBf16 && kHasPairs) {
        const uint16_t* from = static_cast<const uint16_t*>(x);
        uint32_t* pairs = reinterpret_cast<uint32_t*>(to);
        std::memset(pairs + channels / 2 * rows, 0, (deep / 2 - channels / 2) * rows * 4);
        transpose_tightly(static_cast<const char*>(x), stride * 2, rows, channels / 2, pairs);
        if (channels % 2)
            for (int64_t row = 0; row < rows; ++row) pairs[channels / 2 * rows + row] = from[row * stride + channels - 1];
    } else if constexpr (type == Type::kFp32) {
        uint32_t* words = reinterpret_cast<uint32_t*>(to);
        std::memset(words + channels * rows, 0, (deep - channels) * rows * 4);
        transpose_tightly(static_cast<const char*>(x), stride * 4, rows, channels, words);
    } else {
        float* wide = reinterpret_cast<float*>(to);
        std::memset(wide + channels * rows, 0, (deep - channels) * rows * 4);
        for (int64_t channel = 0; channel < channels; ++channel)
            for (int64_t row = 0; row < rows; ++row) {
                const int64_t at = row * stride + channel;
                float& value = wide[channel * rows + row];
                if constexpr (type == Type::kBf16) value = from_bf16(static_cast<const uint16_t*>(x)[at]);
                if constexpr (type == Type::kFp16) value = from_fp16(static_cast<const uint16_t*>(x)[at]);
            }
    }
}

}  // namespace baton
