// Lay a weight (outputs, channels) out in panels; see linear.h.
#include <cstring>

#include "export.h"
#include "linear.h"
#include "pool.h"

namespace baton {
namespace {

// Row of the weight behind lane `lane` of panel `panel`, or -1 for filling.
int64_t source_row(const Linear& linear, int64_t panel, int64_t lane) {
    if (linear.gate == Gate::kNone) {
        const int64_t row = panel * kPanel + lane;
        return row < linear.outputs ? row : -1;
    }
    const int64_t half = linear.outputs / 2, width = kPanel / 2;
    const int64_t row = panel * width + lane % width;
    return row < half ? row + lane / width * half : -1;
}

template <class Element>
void pack_panel(const Linear& linear, const Element* weight, int64_t panel, Element* to) {
    const int64_t group = linear.type == Type::kBf16 ? 2 : 1;
    std::memset(to, 0, panel_bytes(linear));
    for (int64_t lane = 0; lane < kPanel; ++lane) {
        const int64_t row = source_row(linear, panel, lane);
        if (row < 0) continue;
        const Element* from = weight + row * linear.channels;
        for (int64_t channel = 0; channel < linear.channels; ++channel)
            to[channel / group * kPanel * group + lane * group + channel % group] = from[channel];
    }
}

template <class Element>
void pack(const Linear& linear, const void* weight, char* to) {
    parallel_for(num_panels(linear), [&](int64_t panel) {
        pack_panel(linear, static_cast<const Element*>(weight), panel,
                   reinterpret_cast<Element*>(to + panel * panel_bytes(linear)));
    });
}

}  // namespace
}  // namespace baton

// Bytes of the packed weight; -1 for what cannot be packed.
EXPORT int64_t baton_linear_bytes(int64_t type, int64_t outputs, int64_t channels, int64_t gate) {
    using namespace baton;
    if (type < 0 || type > 2 || outputs < 1 || channels < 1 || gate < 0 || gate > 2 || (gate && outputs % 2)) return -1;
    const Linear linear{Type(type), outputs, channels, Gate(gate), nullptr, nullptr};
    return num_panels(linear) * panel_bytes(linear);
}

EXPORT int64_t baton_linear_pack(int64_t type, int64_t outputs, int64_t channels, int64_t gate, const void* weight,
                                 void* packed) {
    using namespace baton;
    const Linear linear{Type(type), outputs, channels, Gate(gate), packed, nullptr};
    if (linear.type == Type::kFp32)
        pack<uint32_t>(linear, weight, static_cast<char*>(packed));
    else
        pack<uint16_t>(linear, weight, static_cast<char*>(packed));
    return 0;
}

// One fp32 per packed output from a bias of `outputs` in fp32.
EXPORT int64_t baton_linear_pack_bias(int64_t outputs, int64_t gate, const float* bias, float* packed) {
    using namespace baton;
    const Linear linear{Type::kFp32, outputs, 1, Gate(gate), nullptr, nullptr};
    for (int64_t panel = 0; panel < num_panels(linear); ++panel)
        for (int64_t lane = 0; lane < kPanel; ++lane) {
            const int64_t row = source_row(linear, panel, lane);
            packed[panel * kPanel + lane] = row < 0 ? 0.0f : bias[row];
        }
    return 0;
}
