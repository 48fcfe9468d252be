// Some rows of queries against one tile of keys: scores, weights, and their share of the values.
//
//     x = score * log2(e)        largest' = max(largest, x)        p = 2^(x - largest')
//     total' = total * 2^(largest - largest') + p                  sums' = sums * 2^(largest - largest') + p v
//
// A key that a row does not see has x minus infinity: it leaves largest, total and sums as they are, bit for bit.
#pragma once
#include "attention_pack.h"

namespace baton {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLowest = -1e30f;  // Below every score, and finite: minus infinity less itself is no number.

// The running softmax of rows of queries. `totals` keeps 16 part sums per row, `sums` padded(dim) channels.
struct State {
    float *largest, *totals, *sums;

    static int64_t floats(int64_t rows, int64_t dim) { return rows * (1 + kLanes + padded(dim)) + kLanes; }
    static State at(float* memory, int64_t rows, int64_t dim) {
        // `sums` begins with a cache line when `memory` does.
        return {memory + rows * (kLanes + padded(dim)), memory + rows * padded(dim), memory};
    }
    void clear(int64_t rows, int64_t dim) const {
        for (int64_t row = 0; row < rows; ++row) largest[row] = kLowest;
        std::memset(totals, 0, rows * kLanes * sizeof(float));
        std::memset(sums, 0, rows * padded(dim) * sizeof(float));
    }
};

// Queries of a block, packed (rows, dim), and their positions: row i is at position + i / group.
template <class Math>
struct Queries {
    const typename Math::Element* rows;
    int64_t dim;
    int64_t position;
    int group;  // queries that share a key head
};

template <class Math>
struct Tile {
    const typename Math::Element *keys, *values;
    const float *key_scales, *value_scales;  // null unless int8
    int64_t first;                           // its first key's position
};

inline float largest_of(Vec a) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps(a.v);
#else
    alignas(64) float lanes[kLanes];
    store(lanes, a);
#pragma GCC unroll 4
    for (int step = 8; step > 0; step /= 2)
        for (int lane = 0; lane < step; ++lane) lanes[lane] = lanes[lane] < lanes[lane + step] ? lanes[lane + step] : lanes[lane];
    return lanes[0];
#endif
}

// The largest lane of row r in lane r; minus infinity in lanes without a row.
template <int rows>
inline Vec largest_of(const Vec (&of)[rows]) {
    alignas(64) float lanes[kLanes];
    store(lanes, fill(-__builtin_inff()));
    for (int row = 0; row < rows; ++row) lanes[row] = largest_of(of[row]);
    return load(lanes);
}

#if defined(__AVX512F__)
// Pairs of rows, pairs of pairs, ...: each step halves the lanes of twice as many rows.
inline Vec largest_of(const Vec (&of)[6]) {
    const auto pair = [](Vec a, Vec b) {
        return max(Vec{_mm512_unpacklo_ps(a.v, b.v)}, Vec{_mm512_unpackhi_ps(a.v, b.v)});
    };
    const auto four = [](Vec a, Vec b) {
        const __m512d left = _mm512_castps_pd(a.v), right = _mm512_castps_pd(b.v);
        return max(Vec{_mm512_castpd_ps(_mm512_unpacklo_pd(left, right))},
                   Vec{_mm512_castpd_ps(_mm512_unpackhi_pd(left, right))});
    };
    const Vec none = fill(-__builtin_inff());
    const Vec low = four(pair(of[0], of[1]), pair(of[2], of[3])), high = four(pair(of[4], of[5]), none);
    const Vec half = max(Vec{_mm512_shuffle_f32x4(low.v, high.v, 0x88)}, Vec{_mm512_shuffle_f32x4(low.v, high.v, 0xdd)});
    const __m512 other = _mm512_shuffle_f32x4(half.v, half.v, 0xb1);
    const __m512 all = max(half, Vec{other}).v;  // rows 0 to 3, the same again, rows 4 and 5
    return {_mm512_mask_blend_ps(0xff00, _mm512_permutexvar_ps(_mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 0, 0, 0, 0, 0, 0, 0, 0), all), none.v)};
}
#endif

inline float total_of(Vec a) {
    alignas(64) float lanes[kLanes];
    store(lanes, a);
#pragma GCC unroll 4
    for (int step = 8; step > 0; step /= 2)
        for (int lane = 0; lane < step; ++lane) lanes[lane] += lanes[lane + step];
    return lanes[0];
}

// cap * tanh(x / cap), as cap * (1 - 2 / (e^(2 x / cap) + 1)).
inline Vec capped(Vec x, float cap) {
    const Vec e = exp(x * fill(2.0f / cap));
    return fill(cap) * (fill(1.0f) - fill(2.0f) / (e + fill(1.0f)));
}

// Loaded once for all rows: left alone the compiler reads it again for each of them, where a product can take it from memory.
template <class Lanes>
inline void keep_in_register(Lanes& lanes) {
#if defined(__AVX512F__)
    if constexpr (sizeof(Lanes) == 64) asm("" : "+v"(lanes));
#endif
}
inline void keep_in_register(Vec& lanes) {
#if defined(__AVX512F__)
    asm("" : "+v"(lanes.v));
#endif
}

// scores[row][key] of a tile, channels in rising order.
template <class Math, int rows, int columns>
inline void score(const typename Math::Element* queries, int64_t dim, const typename Math::Element* keys,
                  float* scores) {
    Vec sums[rows][columns];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) sums[r][c] = zero();
    for (int64_t channel = 0; channel < dim; channel += Math::kStep) {
        typename Math::Lanes lanes[columns];
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) lanes[c] = Math::lanes(keys + (c * dim + channel) * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const auto same = Math::same(queries + r * dim + channel);
#pragma GCC unroll 4
            for (int c = 0; c < columns; ++c) sums[r][c] = Math::multiply(sums[r][c], same, lanes[c]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) store(scores + r * kTile + c * kLanes, sums[r][c]);
}

// sums[row][channel] = sums * fade[row] + weights[row][key] values[key][channel], keys in rising order.
template <class Math, int rows, int columns>
inline void add_values(const typename Math::Element* weights, const float* fade, const typename Math::Element* values,
                       int64_t width, float* to) {
    Vec sums[rows][columns];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) sums[r][c] = load(to + r * width + c * kLanes) * fill(fade[r]);
    for (int key = 0; key < kTile; key += Math::kStep) {
        typename Math::Lanes lanes[columns];
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) {
            lanes[c] = Math::lanes(values + key * width + c * kLanes * Math::kStep);
            keep_in_register(lanes[c]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const auto same = Math::same(weights + r * kTile + key);
#pragma GCC unroll 4
            for (int c = 0; c < columns; ++c) sums[r][c] = Math::multiply(sums[r][c], same, lanes[c]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) store(to + r * width + c * kLanes, sums[r][c]);
}

// 0 for keys [from, to) of a tile, minus infinity for the others.
struct Sight {
    float below[2 * kTile], above[2 * kTile];
    Sight() {
        for (int i = 0; i < 2 * kTile; ++i) {
            below[i] = i < kTile ? -__builtin_inff() : 0.0f;
            above[i] = i < kTile ? 0.0f : -__builtin_inff();
        }
    }
    Vec operator()(int from, int to, int group) const {
        return load(below + kTile - from + group * kLanes) + load(above + kTile - to + group * kLanes);
    }
};

// Scores of one row as powers of two, in place; returns the largest of each 16th.
template <class Math>
inline Vec scale(float* scores, const Tile<Math>& tile, const Form& form, int from, int to) {
    static const Sight sight;
    Vec x[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
        x[g] = load(scores + g * kLanes);
        if (tile.key_scales != nullptr) x[g] = x[g] * load(tile.key_scales + g * kLanes);
        if (form.softcap > 0) x[g] = capped(x[g] * fill(form.scale), form.softcap) * fill(kLog2E);
        else x[g] = x[g] * fill(form.scale * kLog2E);
    }
    if (from > 0 || to < kTile)
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) x[g] = x[g] + sight(from, to, g);
    Vec top = x[0];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
        top = max(x[g], top);
        store(scores + g * kLanes, x[g]);
    }
    return top;
}

// Scaled scores of one row become weights, and are added to its totals.
template <class Math>
inline void weigh(const float* scores, const Tile<Math>& tile, float largest, float fade, float* totals,
                  typename Math::Element* weights) {
    const Vec shift = fill(largest);
    Vec total = load(totals) * fill(fade);
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
        Vec p = power_of_2<Math::kPrecise>(load(scores + g * kLanes) - shift);
        total = total + p;
        if (tile.value_scales != nullptr) p = p * load(tile.value_scales + g * kLanes);
        Math::put(weights + g * kLanes, p);
    }
    store(totals, total);
}

template <class Math, int rows>
void score_all(const typename Math::Element* queries, int64_t dim, const typename Math::Element* keys, float* scores) {
#pragma GCC unroll 2
    for (int c = 0; c < kGroups; c += kColumnTile)
        score<Math, rows, kColumnTile>(queries, dim, keys + c * kLanes * dim, scores + c * kLanes);
}

template <class Math, int rows>
void add_all(const typename Math::Element* weights, const float* fade, const typename Math::Element* values,
             int64_t width, float* sums) {
    int64_t c = 0;
    const int64_t step = Math::kStep;
    for (; c + kColumnTile * kLanes <= width; c += kColumnTile * kLanes)
        add_values<Math, rows, kColumnTile>(weights, fade, values + c * step, width, sums + c);
    for (; c < width; c += kLanes) add_values<Math, rows, 1>(weights, fade, values + c * step, width, sums + c);
}

// Scores of rows [first, first + rows) become weights; `fade`, of 16, is what their sums so far count from now on.
template <class Math, int rows>
__attribute__((noinline)) void weigh_rows(const Queries<Math>& queries, int64_t first, const Tile<Math>& tile, const Form& form,
                       const State& state, float* scores, typename Math::Element* weights, float* fade) {
    static_assert(rows <= kLanes);
    const auto bounded = [](int64_t key) { return static_cast<int>(key < 0 ? 0 : key > kTile ? kTile : key); };
    // Divided once: a division takes as long as the scores of half a row.
    const uint32_t group = static_cast<uint32_t>(queries.group);
    int64_t position = queries.position + static_cast<uint32_t>(first) / group;
    uint32_t member = static_cast<uint32_t>(first) % group;
    Vec tops[rows];
    for (int r = 0; r < rows; ++r) {
        const int64_t to = position + 1 - tile.first, from = form.first_key(position) - tile.first;
        tops[r] = scale<Math>(scores + r * kTile, tile, form, bounded(from), bounded(to));
        if (++member == group) member = 0, ++position;
    }
    alignas(64) float largest[kLanes];
    const Vec before = load(state.largest + first);  // of rows behind these, too: they stay as they are
    const Vec now = max(largest_of(tops), before);
    store(state.largest + first, now);
    store(largest, now);
    store(fade, power_of_2<true>(before - now));
    for (int r = 0; r < rows; ++r)
        weigh<Math>(scores + r * kTile, tile, largest[r], fade[r], state.totals + (first + r) * kLanes,
                    weights + r * kTile);
}

// Rows [first, first + rows) of the block against the tile.
template <class Math, int rows>
void attend_rows(const Queries<Math>& queries, int64_t first, const Tile<Math>& tile, const Form& form,
                 const State& state) {
    alignas(64) float scores[rows * kTile], fade[kLanes];
    alignas(64) typename Math::Element weights[rows * kTile];
    const int64_t width = padded(queries.dim);
    score_all<Math, rows>(queries.rows + first * queries.dim, queries.dim, tile.keys, scores);
    weigh_rows<Math, rows>(queries, first, tile, form, state, scores, weights, fade);
    add_all<Math, rows>(weights, fade, tile.values, width, state.sums + first * width);
}

template <class Math>
void attend_tile(const Queries<Math>& queries, int64_t first, int64_t end, const Tile<Math>& tile, const Form& form,
                 const State& state) {
    for (; first + kRowTile <= end; first += kRowTile) attend_rows<Math, kRowTile>(queries, first, tile, form, state);
    switch (end - first) {
#if defined(__AVX512F__)
        case 5: attend_rows<Math, 5>(queries, first, tile, form, state); break;
        case 4: attend_rows<Math, 4>(queries, first, tile, form, state); break;
        case 3: attend_rows<Math, 3>(queries, first, tile, form, state); break;
#endif
#if defined(__AVX2__)
        case 2: attend_rows<Math, 2>(queries, first, tile, form, state); break;
#endif
        case 1: attend_rows<Math, 1>(queries, first, tile, form, state); break;
        default: break;
    }
}

}  // namespace baton
