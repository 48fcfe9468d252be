// The linear layer: tiles of rows by panels of outputs. Bound by bytes of W up to some ten rows, by FLOPs above.
#include "linear.h"

#include <algorithm>
#include <cstdlib>

#include "export.h"
#include "linear_rows.h"
#include "linear_tile.h"
#include "pool.h"
#include "row.h"
#include "scratch.h"
#include "vec.h"

namespace baton {
namespace {

// Chosen: rows of one task; x of a block stays in the outer caches while panel after panel passes over it.
constexpr int64_t kRowBlock = 384;
// Chosen: a panel's block is 128 KiB, which stay in the second cache while the rows pass over it; a widened one too, where
// a tile is tall enough for that cache's pace, else 16 KiB, for the first one.
template <Type type>
constexpr int64_t kChannelBlock = kXBytes<type> == 2 ? 2048 : kVectorTile >= 8 ? 1024 : 128;
// Chosen: bytes of weight per task while it is read once. Larger ones balance badly, smaller ones break the stream.
constexpr int64_t kTaskBytes = 192 * 1024;

// How the rows of one call are cut: `num_tiles` tiles whose sizes differ by at most one.
struct Cut {
    int64_t rows, num_tiles;

    Cut(int64_t count, int64_t limit) : rows(count), num_tiles((count + limit - 1) / limit) {}
    int64_t first(int64_t tile) const { return tile * (rows / num_tiles) + std::min(tile, rows % num_tiles); }
    int64_t size(int64_t tile) const { return first(tile + 1) - first(tile); }
};

struct Call {
    const Linear& linear;
    const Rows& rows;
    Cut cut;
    const char* x;  // packed: tile after tile, [channel][row] in the element the kernel broadcasts
};

inline Vec gated(Gate gate, Vec x, Vec up) {
    const Vec one = fill(1.0f);
    if (gate == Gate::kSilu) return x / (one + exp(zero() - x)) * up;
    // gelu by tanh: x/2 (1 + tanh(z)) is x sigmoid(2z), z = sqrt(2/pi) (x + 0.044715 x^3)
    const Vec z2 = fill(-1.5957691216057308f) * fma(fill(0.044715f) * x * x, x, x);
    return x / (one + exp(z2)) * up;
}

// `width` results of one row, from a vector that may hold more.
template <Type type, Type result>
inline void finish(const Call& call, int64_t row, int64_t first, int64_t width, Vec value) {
    const int64_t at = row * num_results(call.linear) + first;
    if (width == kLanes) {
        if (call.rows.residual) value = value + load_as(type, call.rows.residual, at);
        return store_as(result, call.rows.y, at, value);
    }
    alignas(64) char edge[64];
    if (call.rows.residual) {
        std::memset(edge, 0, 64);
        std::memcpy(edge, static_cast<const char*>(call.rows.residual) + at * size_of(type), width * size_of(type));
        value = value + load_as(type, edge, 0);
    }
    store_as(result, edge, 0, value);
    std::memcpy(static_cast<char*>(call.rows.y) + at * size_of(result), edge, width * size_of(result));
}

template <Type type, Type result>
void finish_rows(const Call& call, int64_t panel, int64_t first, int64_t end, const float* sums) {
    const Linear& linear = call.linear;
    const float* bias = linear.bias ? linear.bias + panel * kPanel : nullptr;
    for (int64_t row = first; row < end; ++row, sums += kPanel) {
        Vec left = load(sums), right = load(sums + kLanes);
        if (bias) left = left + load(bias), right = right + load(bias + kLanes);
        if (linear.gate != Gate::kNone) {
            const int64_t at = panel * kLanes;
            finish<type, result>(call, row, at, std::min<int64_t>(kLanes, num_results(linear) - at),
                                 gated(linear.gate, left, right));
            continue;
        }
        const int64_t at = panel * kPanel, rest = linear.outputs - at;
        finish<type, result>(call, row, at, std::min<int64_t>(kLanes, rest), left);
        if (rest > kLanes) finish<type, result>(call, row, at + kLanes, std::min<int64_t>(kLanes, rest - kLanes), right);
    }
}

template <Type type>
void finish_panel(const Call& call, int64_t panel, int64_t first, int64_t end, const float* sums) {
    if (call.rows.is_wide) finish_rows<type, Type::kFp32>(call, panel, first, end, sums);
    else finish_rows<type, type>(call, panel, first, end, sums);
}

// Tiles first .. end - 1 of one panel.
template <Type type>
void run_panel(const Call& call, int64_t panel, int64_t first, int64_t end, float* sums) {
    constexpr bool kIsWide = kXBytes<type> == 4;  // products of fp32, whatever the weight is
    const Linear& linear = call.linear;
    const int64_t channels = deep(linear), row_bytes = channels * kXBytes<type>;
    char* weights = static_cast<char*>(const_cast<void*>(linear.packed)) + panel * panel_bytes(linear);
    const int64_t first_row = call.cut.first(first);
    char* const spare = kWidens<type> ? scratch<2>(kChannelBlock<type> * kPanel * 4) : nullptr;
    for (int64_t from = 0; from < channels; from += kChannelBlock<type>) {
        const int64_t depth = std::min(kChannelBlock<type>, channels - from), bytes = depth * kPanel * size_of(type);
        char* const block = weights + from * kPanel * size_of(type);
        for (int64_t tile = first; tile < end; ++tile) {
            const int64_t row = call.cut.first(tile), size = call.cut.size(tile);
            const char* x = call.x + row * row_bytes + from * size * kXBytes<type>;
            float* const own = sums + (row - first_row) * kPanel;
            // A single pass reads ahead in its own stream, several fetch the next block in two halves.
            const char* ahead = block + (end - first == 1 ? read_ahead(size) : tile == first ? bytes : bytes + bytes / 2);
            if (!kIsWide || end - first == 1) run_tile<type>(size, block, x, depth, own, from == 0, ahead);
            else if constexpr (kIsWide)
                run_wide_tile<type>(size, tile == first, block, x, depth, own, from == 0, ahead,
                                    reinterpret_cast<float*>(kWidens<type> ? spare : block));
            if (from + depth == channels) finish_panel<type>(call, panel, row, row + size, own);
        }
    }
}

template <Type type>
void pack_tile(const Call& call, int64_t tile, char* to) {
    const int64_t row = call.cut.first(tile);
    const uint16_t* narrow = static_cast<const uint16_t*>(call.rows.x) + row * call.rows.x_stride;
    const float* wide = static_cast<const float*>(call.rows.x) + row * call.rows.x_stride;
    const int64_t channels = call.linear.channels, size = call.cut.size(tile);
    pack_x<type>(type == Type::kFp32 ? static_cast<const void*>(wide) : narrow, call.rows.x_stride, size, channels,
                 deep(call.linear), to + row * deep(call.linear) * kXBytes<type>);
}

template <Type type>
void multiply_as(const Linear& linear, const Rows& rows) {
    const Cut cut(rows.count, kMaxTile<type>);
    char* x = scratch<0>(rows.count * deep(linear) * kXBytes<type>);
    const Call call{linear, rows, cut, x};
    if (cut.num_tiles < 2)
        for (int64_t tile = 0; tile < cut.num_tiles; ++tile) pack_tile<type>(call, tile, x);
    else
        parallel_for(cut.num_tiles, [&](int64_t tile) { pack_tile<type>(call, tile, x); });

    const int64_t tiles_per_block = std::max<int64_t>(1, kRowBlock / kMaxTile<type>);
    const int64_t num_blocks = (cut.num_tiles + tiles_per_block - 1) / tiles_per_block;
    const int64_t panels = num_panels(linear);
    const int64_t group = std::clamp<int64_t>(kTaskBytes / panel_bytes(linear), 1, panels);
    const int64_t num_groups = (panels + group - 1) / group;
    parallel_for(num_blocks * num_groups, [&](int64_t task) {
        // Blocks of equal size: the last one would otherwise be a task of a few rows per panel.
        const int64_t block = task / num_groups, first_panel = task % num_groups * group;
        const int64_t first = block * cut.num_tiles / num_blocks, end = (block + 1) * cut.num_tiles / num_blocks;
        float* sums = reinterpret_cast<float*>(scratch<1>((cut.first(end) - cut.first(first)) * kPanel * 4));
        for (int64_t panel = first_panel; panel < std::min(first_panel + group, panels); ++panel)
            run_panel<type>(call, panel, first, end, sums);
    });
}

}  // namespace

void multiply(const Linear& linear, const Rows& rows) {
    switch (linear.type) {
        case Type::kFp32: return multiply_as<Type::kFp32>(linear, rows);
        case Type::kBf16: return multiply_as<Type::kBf16>(linear, rows);
        case Type::kFp16: return multiply_as<Type::kFp16>(linear, rows);
    }
}

}  // namespace baton

EXPORT int64_t baton_linear(int64_t type, int64_t outputs, int64_t channels, int64_t gate, const void* packed,
                            const float* bias, int64_t count, const void* x, int64_t x_stride, const void* residual,
                            void* y, int64_t is_wide) {
    using namespace baton;
    if (count < 1) return 0;
    multiply(Linear{Type(type), outputs, channels, Gate(gate), packed, bias},
             Rows{count, x, x_stride, residual, y, is_wide != 0});
    return 0;
}
