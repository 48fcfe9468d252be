// The largest value of each row, and whether all of them are finite: what a greedy draw and the watch for poison ask of
// logits. One pass over the bytes, which it is bound by.
#include <algorithm>

#include "export.h"
#include "pool.h"
#include "vec.h"

namespace baton {
namespace {

constexpr int64_t kBlock = 1024;  // Chosen: what is read again, value by value, to find the place of the largest.

struct Peak {
    int64_t index;  // the lowest of those with the largest value; any, where the row is not finite
    bool is_finite;
};

Peak peak_of(const float* row, int64_t width) {
    Vec faults = zero();  // x - x is 0, or no number
    float top = row[0];
    int64_t block = 0, fault = 0;
    for (int64_t first = 0; first < width; first += kBlock) {
        const int64_t end = std::min(first + kBlock, width);
        int64_t at = first;
        float largest = row[first];
        if (end - at >= kLanes) {
            Vec most = load(row + at);
            for (; at + kLanes <= end; at += kLanes) {
                const Vec values = load(row + at);
                most = max(most, values);
                faults = faults + (values - values);
            }
            alignas(64) float lanes[kLanes];
            store(lanes, most);
            largest = *std::max_element(lanes, lanes + kLanes);
        }
        for (; at < end; ++at) {
            largest = std::max(largest, row[at]);
            fault |= row[at] - row[at] != 0.0f;
        }
        if (largest > top) top = largest, block = first;
    }
    alignas(64) float lanes[kLanes];
    store(lanes, faults);
    for (float lane : lanes) fault |= lane != 0.0f;
    const float* const begin = row + block;
    const float* const end = row + std::min(block + kBlock, width);
    const float* const found = std::find(begin, end, top);
    return {found == end ? 0 : found - row, fault == 0};
}

}  // namespace
}  // namespace baton

// Rows of `width` fp32, contiguous. `largest` has a place per row, `finite` a byte.
EXPORT int64_t baton_row_peaks(const float* rows, int64_t count, int64_t width, int64_t* largest, uint8_t* finite) {
    using namespace baton;
    parallel_for(count, [&](int64_t row) {
        const Peak peak = peak_of(rows + row * width, width);
        largest[row] = peak.index;
        finite[row] = peak.is_finite;
    });
    return 0;
}
