// A few queries against keys and values that stay in their pages.
//
// The sums of attention_tile.h, bit for bit: a lane has one key, or one channel, whatever brought it there. Copies of a
// tile pay where many queries read them; one token's are too few. Here 16 keys are turned in registers on their way to the
// products. attention_stored.h says what a page's words become there.
//
// Bound by bytes of the context: while a tile is computed the next one is fetched, a few lines at a time. All at once they
// would wait for each other.
#pragma once
#include "attention_stored.h"

namespace baton {

#if defined(__AVX512F__)

constexpr int kFewRows = 6;  // 24 sums, 4 values, 1 broadcast: what the registers hold

// A tile by groups of 16 keys, each in one page.
struct PlacedTile {
    const char *keys[kGroups], *values[kGroups];
    const char* scales[kGroups];  // of eight-bit keys; those of values lie as far behind as values do
    int count;

    int left(int group) const { return count - group * kLanes; }
};

template <class Math>
inline bool can_stay(const Pages& pages, int64_t num_rows) {
    const bool are_vectors_whole = pages.slots % kLanes == 0 && pages.dim % kValueChannels == 0;
    // Eight bits would have to become pairs before hardware multiplies them.
    return (Math::kStep == 1 || is_as_stored<Math>(pages.kind)) && are_vectors_whole && num_rows <= kFewRows;
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
        tile.scales[group] = chunk + pages.slots * pages.row_bytes() + key % pages.slots * 4;
    }
    return tile;
}

// Into the second cache, as fetch_rows does.
inline void fetch_part(const char* from, int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line, 0, 1);
}

// scores[row][key]. A key that is not there scores zero, whatever lies in its slot.
template <class Stored, int rows>
inline void score_in_place(const typename Stored::Math::Element* queries, int64_t dim, const PlacedTile& tile,
                           const PlacedTile& next, float* scores) {
    constexpr int64_t kBytes = Stored::kBytes, kPerWord = 4 / kBytes;
    __m512 sums[kGroups][rows];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g)
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) sums[g][r] = _mm512_setzero_ps();
    // Groups take turns, so that one's keys are turned while another's sums wait for their products.
    for (int64_t channel = 0; channel < dim; channel += kPerWord * kLanes) {
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) {
            if (next.left(g) > 0) fetch_part(next.keys[g] + channel * kBytes * kLanes, kLanes * 64);
            if (tile.left(g) <= 0) continue;
            Stored::template add_keys<rows>(sums[g], queries + channel, dim, tile.keys[g] + channel * kBytes);
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

// sums[row][channel] = sums * fade[row] + weights[row][key] values[key][channel] for 64 channels, keys in rising order.
template <class Stored, int rows>
inline void add_in_place(const typename Stored::Math::Element* weights, const float* fade, const PlacedTile& tile,
                         const PlacedTile& next, int64_t dim, int64_t channel, float* to) {
    constexpr int64_t kBytes = Stored::kBytes;
    constexpr int kPairs = kLanes / 2, kPart = kLanes * kValueChannels * kBytes / kPairs;
    __m512 sums[rows][kValueVectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < kValueVectors; ++c)
            sums[r][c] = _mm512_mul_ps(_mm512_loadu_ps(to + r * dim + c * kLanes), _mm512_set1_ps(fade[r]));
    for (int g = 0; g < kGroups; ++g) {
        const bool has_next = next.left(g) > 0;
        const int here = std::clamp(tile.left(g), 0, kLanes);
        for (int pair = 0; pair < kPairs; ++pair) {
            if (has_next) fetch_part(next.values[g] + channel * kBytes * kLanes + pair * kPart, kPart);
            if (2 * pair >= here) continue;
            const char* even = tile.values[g] + (2 * pair * dim + channel) * kBytes;
            const char* odd = 2 * pair + 1 < here ? even + dim * kBytes : nullptr;
            Stored::template add_values<rows>(sums, weights + g * kLanes + 2 * pair, even, odd);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < kValueVectors; ++c) _mm512_storeu_ps(to + r * dim + c * kLanes, sums[r][c]);
}

// Scales of a tile's 64 keys, or of their values; none for a key that is not there.
inline void gather_scales(const PlacedTile& tile, int64_t behind, float* to) {
    for (int g = 0; g < kGroups; ++g, to += kLanes) {
        const int left = std::clamp(tile.left(g), 0, kLanes);
        std::memset(to, 0, kLanes * 4);
        if (left > 0) std::memcpy(to, tile.scales[g] + behind, left * 4);
    }
}

template <class Stored, int rows>
void attend_keys(const Queries<typename Stored::Math>& queries, const Keys& keys, const Keys& after, const Form& form,
                 const State& state) {
    using Math = typename Stored::Math;
    alignas(64) float scores[rows * kTile], fade[kLanes], scales[2][kTile];
    alignas(64) typename Math::Element weights[rows * kTile];
    const int64_t dim = queries.dim;
    PlacedTile tile = place(keys, keys.first), next;
    for (int64_t first = keys.first; first < keys.end; first += kTile, tile = next) {
        next = first + kTile < keys.end ? place(keys, first + kTile) : place(after, after.first);
        score_in_place<Stored, rows>(queries.rows, dim, tile, next, scores);
        Tile<Math> place_of_tile{nullptr, nullptr, nullptr, nullptr, first};
        if constexpr (Stored::kBytes == 1) {
            gather_scales(tile, 0, scales[0]);
            gather_scales(tile, keys.pages->values_after_keys(), scales[1]);
            place_of_tile.key_scales = scales[0], place_of_tile.value_scales = scales[1];
        }
        weigh_rows<Math, rows>(queries, 0, place_of_tile, form, state, scores, weights, fade);
        for (int64_t channel = 0; channel < dim; channel += kValueChannels)
            add_in_place<Stored, rows>(weights, fade, tile, next, dim, channel, state.sums + channel);
    }
    Stored::settle(state.sums, rows * dim);
}

// All rows of a block against a span. `after` are the keys that this thread will most likely read next.
template <class Stored, int few = kFewRows>
void attend_stored(int64_t rows, const Queries<typename Stored::Math>& queries, const Keys& keys, const Keys& after,
                   const Form& form, const State& state) {
    if (rows == few) return attend_keys<Stored, few>(queries, keys, after, form, state);
    if constexpr (few > 1) attend_stored<Stored, few - 1>(rows, queries, keys, after, form, state);
}

inline void attend_in_place(int64_t rows, const Queries<Fp32>& queries, const Keys& keys, const Keys& after,
                            const Form& form, const State& state) {
    switch (keys.pages->kind) {
        case Kind::kFp32: return attend_stored<Widened<4, WideFp32>>(rows, queries, keys, after, form, state);
        case Kind::kBf16: return attend_stored<Widened<2, WideBf16>>(rows, queries, keys, after, form, state);
        case Kind::kFp16: return attend_stored<Widened<2, WideFp16>>(rows, queries, keys, after, form, state);
        case Kind::kInt8: return attend_stored<Widened<1, WideInt8>>(rows, queries, keys, after, form, state);
        case Kind::kFp8: return attend_stored<Widened<1, WideE4m3>>(rows, queries, keys, after, form, state);
    }
}
#if defined(__AVX512BF16__)
inline void attend_in_place(int64_t rows, const Queries<Bf16Pairs>& queries, const Keys& keys, const Keys& after,
                            const Form& form, const State& state) {
    attend_stored<HardwarePairs>(rows, queries, keys, after, form, state);
}
#endif

#endif

}  // namespace baton
