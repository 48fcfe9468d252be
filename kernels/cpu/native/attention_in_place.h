// A few queries against keys and values that stay in their pages: bf16, where pairs are multiplied in hardware.
//
// The sums of attention_tile.h, bit for bit: a lane has one key, or one channel, whatever brought it there. Copies of a
// tile pay where many queries read them; one token's are too few. Here 16 keys are turned in registers on their way to the
// products, and values of two keys interleaved 4 channels at a time, which leaves sums in another order until `settle`.
//
// Bound by bytes of the context: while a tile is computed the next one is fetched, a few lines at a time. All at once they
// would wait for each other.
#pragma once
#include "attention_tile.h"

namespace baton {

#if defined(__AVX512BF16__)

constexpr int kFewRows = 6;         // 24 sums, 4 values, 1 broadcast: what the registers hold
constexpr int kValueChannels = 64;  // that are summed up at once
constexpr int kHalves = 2;          // vectors of 32 channels among them

// A tile by groups of 16 keys, each in one page.
struct PlacedTile {
    const char *keys[kGroups], *values[kGroups];
    int count;

    int left(int group) const { return count - group * kLanes; }
};

inline bool can_stay(const Pages& pages, int64_t num_rows) {
    const bool are_vectors_whole = pages.slots % kLanes == 0 && pages.dim % kValueChannels == 0;
    return pages.kind == Kind::kBf16 && are_vectors_whole && num_rows <= kFewRows;
}

inline PlacedTile place(const Keys& keys, int64_t first) {
    PlacedTile tile{};
    tile.count = static_cast<int>(std::clamp<int64_t>(keys.end - first, 0, kTile));
    const Pages& pages = *keys.pages;
    for (int group = 0; tile.left(group) > 0; ++group) {
        const int64_t key = first + group * kLanes;
        const char* chunk = pages.keys_of(keys.table[key / pages.slots], keys.head);
        tile.keys[group] = chunk + key % pages.slots * pages.row_bytes();
        tile.values[group] = tile.keys[group] + pages.values_after_keys();
    }
    return tile;
}

// Into the second cache, as fetch_rows does.
inline void fetch_part(const char* from, int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line, 0, 1);
}

// scores[row][key]. A key that is not there scores zero, whatever lies in its slot.
template <int rows>
inline void score_in_place(const uint16_t* queries, int64_t dim, const PlacedTile& tile, const PlacedTile& next,
                           float* scores) {
    __m512 sums[kGroups][rows];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g)
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) sums[g][r] = _mm512_setzero_ps();
    // Groups take turns, so that one's keys are turned while another's sums wait for their products.
    for (int64_t channel = 0; channel < dim; channel += 2 * kLanes) {
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) {
            if (next.left(g) > 0) fetch_part(next.keys[g] + channel * 2 * kLanes, kLanes * 64);
            if (tile.left(g) <= 0) continue;
            __m512i pairs[kLanes];
#pragma GCC unroll 16
            for (int k = 0; k < kLanes; ++k) pairs[k] = _mm512_loadu_si512(tile.keys[g] + (k * dim + channel) * 2);
            turn(pairs);
#pragma GCC unroll 16
            for (int p = 0; p < kLanes; ++p)
#pragma GCC unroll 6
                for (int r = 0; r < rows; ++r)
                    sums[g][r] = _mm512_dpbf16_ps(sums[g][r], Bf16Pairs::same(queries + r * dim + channel + 2 * p),
                                                  (__m512bh)pairs[p]);
        }
    }
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
        const int left = std::clamp(tile.left(g), 0, kLanes);
        const __mmask16 is_there = static_cast<__mmask16>((1u << left) - 1);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r)
            _mm512_storeu_ps(scores + r * kTile + g * kLanes, _mm512_maskz_mov_ps(is_there, sums[g][r]));
    }
}

// Sums of 64 channels in registers, as unpacking two rows of values orders them.
template <int rows>
struct ValueSums {
    __m512 of[rows][2 * kHalves];

    inline void begin(const float* from, int64_t width, const float* fade) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
            for (int c = 0; c < 2 * kHalves; ++c)
                of[r][c] = _mm512_mul_ps(_mm512_loadu_ps(from + r * width + c * kLanes), _mm512_set1_ps(fade[r]));
    }
    inline void end(float* to, int64_t width) const {
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
            for (int c = 0; c < 2 * kHalves; ++c) _mm512_storeu_ps(to + r * width + c * kLanes, of[r][c]);
    }
    // Two keys, the second of which may be missing. `weights` are theirs, kTile apart from row to row.
    inline void add(const uint16_t* weights, const char* even, const char* odd) {
        __m512bh values[2 * kHalves];
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half) {
            const __m512i a = _mm512_loadu_si512(even + half * 64);
            const __m512i b = odd ? _mm512_loadu_si512(odd + half * 64) : _mm512_setzero_si512();
            values[2 * half] = (__m512bh)_mm512_unpacklo_epi16(a, b);
            values[2 * half + 1] = (__m512bh)_mm512_unpackhi_epi16(a, b);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            const __m512bh same = Bf16Pairs::same(weights + r * kTile);
#pragma GCC unroll 4
            for (int c = 0; c < 2 * kHalves; ++c) of[r][c] = _mm512_dpbf16_ps(of[r][c], same, values[c]);
        }
    }
};

// sums[row][channel] = sums * fade[row] + weights[row][key] values[key][channel] for 64 channels, keys in rising order.
template <int rows>
inline void add_in_place(const uint16_t* weights, const float* fade, const PlacedTile& tile, const PlacedTile& next,
                         int64_t dim, int64_t channel, float* to) {
    constexpr int kPairs = kLanes / 2, kPart = kLanes * kValueChannels * 2 / kPairs;
    ValueSums<rows> sums;
    sums.begin(to, dim, fade);
    for (int g = 0; g < kGroups; ++g) {
        const bool has_next = next.left(g) > 0;
        const int whole = std::clamp(tile.left(g), 0, kLanes) / 2;
        for (int pair = 0; pair < kPairs; ++pair) {
            if (has_next) fetch_part(next.values[g] + channel * 2 * kLanes + pair * kPart, kPart);
            if (pair >= whole) continue;
            const char* even = tile.values[g] + (2 * pair * dim + channel) * 2;
            sums.add(weights + g * kLanes + 2 * pair, even, even + 2 * dim);
        }
        if (tile.left(g) > 0 && tile.left(g) < kLanes && tile.left(g) % 2)
            sums.add(weights + g * kLanes + 2 * whole, tile.values[g] + (2 * whole * dim + channel) * 2, nullptr);
    }
    sums.end(to, dim);
}

// Sums in the order of their channels again.
inline void settle(float* sums, int64_t count) {
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for (float* at = sums; at < sums + count; at += 2 * kLanes) {
        const __m512 low = _mm512_loadu_ps(at), high = _mm512_loadu_ps(at + kLanes);
        _mm512_storeu_ps(at, _mm512_permutex2var_ps(low, first, high));
        _mm512_storeu_ps(at + kLanes, _mm512_permutex2var_ps(low, second, high));
    }
}

template <int rows>
void attend_keys(const Queries<Bf16Pairs>& queries, const Keys& keys, const Keys& after, const Form& form,
                 const State& state) {
    alignas(64) float scores[rows * kTile], fade[kLanes];
    alignas(64) uint16_t weights[rows * kTile];
    const int64_t dim = queries.dim;
    PlacedTile tile = place(keys, keys.first), next;
    for (int64_t first = keys.first; first < keys.end; first += kTile, tile = next) {
        next = first + kTile < keys.end ? place(keys, first + kTile) : place(after, after.first);
        score_in_place<rows>(queries.rows, dim, tile, next, scores);
        const Tile<Bf16Pairs> place_of_tile{nullptr, nullptr, nullptr, nullptr, first};
        weigh_rows<Bf16Pairs, rows>(queries, 0, place_of_tile, form, state, scores, weights, fade);
        for (int64_t channel = 0; channel < dim; channel += kValueChannels)
            add_in_place<rows>(weights, fade, tile, next, dim, channel, state.sums + channel);
    }
    settle(state.sums, rows * dim);
}

// All rows of a block against a span. `after` are the keys that this thread will most likely read next.
inline void attend_in_place(int64_t rows, const Queries<Bf16Pairs>& queries, const Keys& keys, const Keys& after,
                            const Form& form, const State& state) {
    switch (rows) {
        case 1: return attend_keys<1>(queries, keys, after, form, state);
        case 2: return attend_keys<2>(queries, keys, after, form, state);
        case 3: return attend_keys<3>(queries, keys, after, form, state);
        case 4: return attend_keys<4>(queries, keys, after, form, state);
        case 5: return attend_keys<5>(queries, keys, after, form, state);
        case 6: return attend_keys<6>(queries, keys, after, form, state);
        default: std::abort();
    }
}

#endif

}  // namespace baton
