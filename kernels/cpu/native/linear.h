// y = x W^T (+ bias) (gated) (+ residual), with W packed once.
//
// Packed: panels of 32 outputs. Within a panel fp32 and fp16 lie as [channel][output], bf16 as [channel pair][output][2],
// channels filled up with zeros to whole pairs of tiles. A gated panel holds 16 gate outputs and the 16 up outputs that
// they multiply.
//
// Exact: an element is summed over channels in rising order in one accumulator, whatever the number of rows and threads.
// Blocks of channels keep the accumulator as fp32 between them, which changes no bit. Work is split over rows and outputs,
// never over channels.
#pragma once
#include <cstdint>

namespace baton {

constexpr int64_t kPanel = 32;

enum class Type : int64_t { kFp32 = 0, kBf16 = 1, kFp16 = 2 };
enum class Gate : int64_t { kNone = 0, kSilu = 1, kGeluTanh = 2 };

struct Linear {
    Type type;
    int64_t outputs;   // rows of W; of a gated one: gates and ups together
    int64_t channels;
    Gate gate;
    const void* packed;
    const float* bias;  // one per packed output, or null
};

struct Rows {
    int64_t count;
    const void* x;         // (count, channels) in the weight's type
    int64_t x_stride;      // elements from row to row
    const void* residual;  // (count, results) in the weight's type, or null
    void* y;               // (count, results) in the weight's type, or fp32 when wide
    bool is_wide;
};

inline int64_t size_of(Type type) { return type == Type::kFp32 ? 4 : 2; }
inline int64_t num_results(const Linear& linear) {
    return linear.gate == Gate::kNone ? linear.outputs : linear.outputs / 2;
}
inline int64_t num_panels(const Linear& linear) {
    return linear.gate == Gate::kNone ? (linear.outputs + kPanel - 1) / kPanel
                                      : (linear.outputs / 2 + kPanel / 2 - 1) / (kPanel / 2);
}
// Channels as they are packed.
inline int64_t deep(const Linear& linear) {
    return linear.type == Type::kBf16 ? (linear.channels + 31) / 32 * 32 : linear.channels;
}
inline int64_t panel_bytes(const Linear& linear) { return deep(linear) * kPanel * size_of(linear.type); }

void multiply(const Linear& linear, const Rows& rows);

}  // namespace baton
