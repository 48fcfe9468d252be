// What has to happen once per process before an operator of this variant may run.
#include "export.h"
#include "linear.h"
#include "vec.h"

#include <cmath>
#include <vector>

#if defined(__AMX_TILE__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace baton {
namespace {

// 0, or 1 when the kernel does not let this process use the tile registers.
int64_t ask_for_tiles() {
#if defined(__AMX_TILE__) && defined(__linux__)
    constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : 1;
#else
    return 0;
#endif
}

// One product with ragged edges against a plain sum: 0, or 2 when they differ by more than rounding. The order of sums is
// the tests' business; this is about processors and compilers that were not there when the tests ran.
int64_t check_product() {
    constexpr int64_t kRows = 35, kOutputs = 40, kChannels = 100, kDeep = 128, kPadded = 64;
    std::vector<uint16_t> weight(kOutputs * kChannels), packed(kPadded * kDeep, 0), x(kRows * kChannels);
    uint32_t state = 1;
    const auto draw = [&] { return to_bf16(static_cast<float>((state = state * 1664525u + 1013904223u) >> 20) / 2048.0f - 1); };
    for (auto& value : weight) value = draw();
    for (auto& value : x) value = draw();
    for (int64_t output = 0; output < kOutputs; ++output)
        for (int64_t channel = 0; channel < kChannels; ++channel)
            packed[output / kPanel * kPanel * kDeep + channel / 2 * kPanel * 2 + output % kPanel * 2 + channel % 2] =
                weight[output * kChannels + channel];
    std::vector<float> y(kRows * kOutputs);
    multiply(Linear{Type::kBf16, kOutputs, kChannels, Gate::kNone, packed.data(), nullptr},
             Rows{kRows, x.data(), kChannels, nullptr, y.data(), true});
    for (int64_t row = 0; row < kRows; ++row)
        for (int64_t output = 0; output < kOutputs; ++output) {
            double sum = 0;
            for (int64_t channel = 0; channel < kChannels; ++channel)
                sum += static_cast<double>(from_bf16(x[row * kChannels + channel])) *
                       from_bf16(weight[output * kChannels + channel]);
            if (!(std::fabs(sum - y[row * kOutputs + output]) < 1e-4)) return 2;
        }
    return 0;
}

}  // namespace
}  // namespace baton

// 0, 1 when the kernel refuses the tile registers, 2 when a product comes out wrong.
EXPORT int64_t baton_start() {
    const int64_t refused = baton::ask_for_tiles();
    return refused ? refused : baton::check_product();
}
