// Two by two tile registers of sums: up to 32 rows by one panel of 32 outputs, 32 channels of bf16 at a time.
//
//     Tiles::begin(rows);  Tiles::clear() or load(sums);  Tiles::add(x, weights) ...;  Tiles::end(sums);
//
// x is (rows, 32) bf16, weights (16 pairs, 32 outputs, 2) bf16, sums (rows, 32) fp32. An element gains, per 32 channels,
// the sum of the even ones plus the sum of the odd ones, each in rising order: what TDPBF16PS documents. HardwareTiles runs
// the instructions; EmulatedTiles is the same in plain C++, for machines without them. Not run on hardware so far.
#pragma once
#include <cstdint>
#include <cstring>

#include "linear.h"
#include "vec.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#endif

namespace baton {

constexpr int kTileRows = 16;

struct EmulatedTiles {
    static inline thread_local float sums[2 * kTileRows][kPanel];
    static inline thread_local int64_t num_rows;

    static void begin(int64_t rows) { num_rows = rows; }
    static void clear() { std::memset(sums, 0, sizeof sums); }
    static void load(const float* from) { std::memcpy(sums, from, num_rows * kPanel * 4); }
    static void add(const char* x, const char* weights) {
        const uint16_t* a = reinterpret_cast<const uint16_t*>(x);
        const uint16_t* b = reinterpret_cast<const uint16_t*>(weights);
        for (int64_t row = 0; row < num_rows; ++row)
            for (int64_t output = 0; output < kPanel; ++output) {
                float even = 0, odd = 0;
                for (int64_t pair = 0; pair < 16; ++pair) {
                    const uint16_t* w = b + (pair * kPanel + output) * 2;
                    even += from_bf16(a[row * 32 + pair * 2]) * from_bf16(w[0]);
                    odd += from_bf16(a[row * 32 + pair * 2 + 1]) * from_bf16(w[1]);
                }
                sums[row][output] += even + odd;
            }
    }
    static void end(float* to) { std::memcpy(to, sums, num_rows * kPanel * 4); }
};

#if defined(__AMX_BF16__)

// Tiles 0 to 3 are sums (upper left, upper right, lower left, lower right), 4 and 5 are x, 6 and 7 weights.
struct HardwareTiles {
    static inline thread_local int64_t num_lower;

    struct alignas(64) Shape {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    };

    static void begin(int64_t rows) {
        const uint8_t upper = static_cast<uint8_t>(rows < kTileRows ? rows : kTileRows);
        num_lower = rows - upper;
        Shape shape{};
        shape.palette = 1;
        const uint8_t lower = static_cast<uint8_t>(num_lower);
        const uint8_t rows_of[8] = {upper, upper, lower, lower, upper, lower, kTileRows, kTileRows};
        for (int tile = 0; tile < 8; ++tile) {
            shape.rows[tile] = rows_of[tile];
            shape.row_bytes[tile] = rows_of[tile] ? 64 : 0;
        }
        _tile_loadconfig(&shape);
    }
    static void clear() {
        _tile_zero(0);
        _tile_zero(1);
        if (num_lower == 0) return;
        _tile_zero(2);
        _tile_zero(3);
    }
    static void load(const float* from) {
        _tile_loadd(0, from, 128);
        _tile_loadd(1, from + kLanes, 128);
        if (num_lower == 0) return;
        _tile_loadd(2, from + kTileRows * kPanel, 128);
        _tile_loadd(3, from + kTileRows * kPanel + kLanes, 128);
    }
    static void add(const char* x, const char* weights) {
        _tile_loadd(6, weights, 128);
        _tile_loadd(7, weights + 64, 128);
        _tile_loadd(4, x, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (num_lower == 0) return;
        _tile_loadd(5, x + kTileRows * 64, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    static void end(float* to) {
        _tile_stored(0, to, 128);
        _tile_stored(1, to + kLanes, 128);
        if (num_lower != 0) {
            _tile_stored(2, to + kTileRows * kPanel, 128);
            _tile_stored(3, to + kTileRows * kPanel + kLanes, 128);
        }
        // Other libraries of the process configure tiles of their own, so none are left behind.
        _tile_release();
    }
};

using Tiles = HardwareTiles;
#else
using Tiles = EmulatedTiles;
#endif

// Which of them this library's bf16 products go through, if any.
#if defined(__AMX_BF16__) || defined(BATON_EMULATE_TILES)
constexpr bool kHasTiles = true;
#else
constexpr bool kHasTiles = false;
#endif

}  // namespace baton
