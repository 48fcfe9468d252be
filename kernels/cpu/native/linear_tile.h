// The innermost product: up to kMaxTile rows by one panel over a block of channels, sums in registers.
//
// x of a tile lies as [channel][row], so that a channel's values are broadcast from neighbouring addresses. With dot
// products of bf16 pairs in hardware a pair is one 32-bit element; elsewhere x is widened to fp32 when it is packed, and a
// pair is added as two fused steps, the second channel first, which is the order of the hardware: x lies in that order. With
// tile registers x lies as [32 channels][row][channel].
//
// Where a weight must be widened to be multiplied, the first tile of several leaves it widened for the others.
#pragma once
#include "linear.h"
#include "tiles.h"
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

// Whether products of this type are products of fp32, to be widened first.
template <Type type>
constexpr bool kWidens = type == Type::kFp16 || (type == Type::kBf16 && !kHasPairs && !kHasTiles);

// Fetches one line into the second cache: the first one holds x. A pointer past the end is harmless.
inline void fetch(const char* line) { __builtin_prefetch(line, 0, 2); }
inline void fetch_near(const float* line) { __builtin_prefetch(line, 0, 3); }
// Channels from a widened weight's read to its fetch into the first cache; 0 where it stays there.
constexpr int64_t kNear = kVectorTile >= 8 ? 4 : 0;

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

// `keeps`: what is widened is stored from `kept` on, as [channel][output] in x's order of channels, and `ahead` is followed
// at half the pace: the other half is another tile's.
template <Type type, int size, bool keeps>
__attribute__((noinline)) void tile(const char* weights, const char* x, int64_t depth, float* sums, bool is_first,
                                    const char* ahead, float* kept) {
    Sums<type, size> own;
    own.begin(sums, is_first);
    const float* wide = reinterpret_cast<const float*>(x);
    const auto add = [&](Vec left, Vec right) {
        if constexpr (keeps) {
            store(kept, left);
            store(kept + kLanes, right);
            kept += kPanel;
        }
        own.add(left, right, wide);
        wide += size;
    };
    if constexpr (type == Type::kFp32) {
        for (int64_t channel = 0; channel < depth; ++channel, weights += 128, ahead += 128) {
            fetch(ahead);
            fetch(ahead + 64);
            const float* panel = reinterpret_cast<const float*>(weights);
            add(load(panel), load(panel + kLanes));
        }
    } else if constexpr (type == Type::kFp16) {
        for (int64_t channel = 0; channel < depth; ++channel, weights += 64, ahead += keeps ? 32 : 64) {
            fetch(ahead);
            const uint16_t* panel = reinterpret_cast<const uint16_t*>(weights);
            add(load_fp16(panel), load_fp16(panel + kLanes));
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
        for (int64_t pair = 0; pair < depth / 2; ++pair, weights += 128, ahead += keeps ? 64 : 128) {
            fetch(ahead);
            if (!keeps) fetch(ahead + 64);
            const uint16_t* panel = reinterpret_cast<const uint16_t*>(weights);
            add(odd_bf16(panel), odd_bf16(panel + kPanel));
            add(even_bf16(panel), even_bf16(panel + kPanel));
        }
#endif
    }
    own.end(sums);
}

// The same from what a tile before left widened, in the second cache: the first one is fed ahead.
template <int size>
__attribute__((noinline)) void wide_tile(const float* weights, const float* x, int64_t depth, float* sums, bool is_first,
                                         const char* ahead) {
    Sums<Type::kFp32, size> own;
    own.begin(sums, is_first);
    for (int64_t channel = 0; channel < depth; ++channel, weights += kPanel, x += size, ahead += 32) {
        fetch(ahead);
        if constexpr (kNear > 0) {
            fetch_near(weights + kNear * kPanel);
            fetch_near(weights + kNear * kPanel + kLanes);
            fetch_near(x + 2 * kNear * size);
        }
        own.add(load(weights), load(weights + kLanes), x);
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

// The only one of its panel, or of a type that nothing is widened of.
template <Type type, int size = kVectorTile>
inline void run_tile(int64_t rows, const char* weights, const char* x, int64_t depth, float* sums, bool is_first,
                     const char* ahead) {
    if constexpr (kTiled<type>) return run_tiles(rows, weights, x, depth, sums, is_first, ahead);
    if (rows == size) return tile<type, size, false>(weights, x, depth, sums, is_first, ahead, nullptr);
    if constexpr (size > 1) run_tile<type, size - 1>(rows, weights, x, depth, sums, is_first, ahead);
}

// One of several: the first one widens into `kept`, the others read it. Of fp32 `kept` are the weights themselves.
template <Type type, int size = kVectorTile>
inline void run_wide_tile(int64_t rows, bool widens, const char* weights, const char* x, int64_t depth, float* sums,
                          bool is_first, const char* ahead, float* kept) {
    if (rows == size) {
        if (widens) return tile<type, size, kWidens<type>>(weights, x, depth, sums, is_first, ahead, kept);
        return wide_tile<size>(kept, reinterpret_cast<const float*>(x), depth, sums, is_first, ahead);
    }
    if constexpr (size > 1) run_wide_tile<type, size - 1>(rows, widens, weights, x, depth, sums, is_first, ahead, kept);
}

}  // namespace baton
