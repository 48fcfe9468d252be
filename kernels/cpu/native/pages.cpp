// Pages as bytes: their digests, and copies between pages and contiguous staging. Bound by bytes.
//
//     digest[n] = (first_index + n + 1) k[0] + w[0] k[1] + ... + w[W-1] k[W]   modulo 2^64, w the 32-bit words of page n
//
// A word times a key is word * low half + (word * high half << 32). The second sum is shifted once, at its end, and needs
// 32 bits alone. Integers wrap, so the order of summation is the compiler's to choose, and each instruction set has its
// own. Keys are twice as large as a page: several pages are summed together, tile by tile, so that a tile of keys comes
// from the first cache for all pages but one.
//
// Neither uses the pool of threads: digests are made beside the step loop, whose pool it is.
#include <algorithm>
#include <cstring>

#include "export.h"

namespace baton {
namespace {

constexpr int64_t kTile = 512;  // Words. Measured on Zen 4: tiles with 4 pages 22 to 25 GB/s, 1 page without tiles 11.
constexpr int kTogether = 4;

typedef uint32_t Word __attribute__((aligned(1), may_alias));

struct Keys {
    const uint32_t* low;
    const uint32_t* high;
};

template <int kPages>
void sum_words(const char* pages, int64_t page_bytes, Keys keys, uint64_t* sums) {
    const int64_t num_words = page_bytes / 4;
    uint64_t low_sums[kPages] = {};
    uint32_t high_sums[kPages] = {};
    for (int64_t start = 0; start < num_words; start += kTile) {
        const int64_t count = std::min(kTile, num_words - start);
        for (int page = 0; page < kPages; ++page) {
            const char* const from = pages + page * page_bytes + start * 4;
            // The next tile of this page: between two tiles lie those of the others, too many for the hardware to guess.
            for (int64_t ahead = 0; ahead < count * 4; ahead += 64) __builtin_prefetch(from + kTile * 4 + ahead);
            const Word* const words = reinterpret_cast<const Word*>(from);
            uint64_t low = 0;
            uint32_t high = 0;
            for (int64_t at = 0; at < count; ++at) {
                low += static_cast<uint64_t>(words[at]) * keys.low[start + at];
                high += words[at] * keys.high[start + at];
            }
            low_sums[page] += low;
            high_sums[page] += high;
        }
    }
    for (int page = 0; page < kPages; ++page) sums[page] = low_sums[page] + (static_cast<uint64_t>(high_sums[page]) << 32);
}

}  // namespace
}  // namespace baton

// `pages`: contiguous, at any address. `low`, `high`: halves of k[1] .. k[W]. `position`: k[0].
EXPORT int64_t baton_page_digests(const char* pages, int64_t page_bytes, int64_t count, const uint32_t* low,
                                  const uint32_t* high, int64_t position, int64_t first_index, uint64_t* digests) {
    const baton::Keys keys{low, high};
    int64_t page = 0;
    for (; page + baton::kTogether <= count; page += baton::kTogether)
        baton::sum_words<baton::kTogether>(pages + page * page_bytes, page_bytes, keys, digests + page);
    for (; page < count; ++page) baton::sum_words<1>(pages + page * page_bytes, page_bytes, keys, digests + page);
    for (page = 0; page < count; ++page)
        digests[page] += static_cast<uint64_t>(first_index + page + 1) * static_cast<uint64_t>(position);
    return 0;
}

// Copy the pages `numbers` out of `pages` into `buffer`, in that order; or, with `is_scatter`, from there into the pages.
EXPORT int64_t baton_copy_pages(char* pages, int64_t page_bytes, const int64_t* numbers, int64_t count, char* buffer,
                                int64_t is_scatter) {
    for (int64_t at = 0; at < count; ++at) {
        char* const page = pages + numbers[at] * page_bytes;
        char* const place = buffer + at * page_bytes;
        std::memcpy(is_scatter ? page : place, is_scatter ? place : page, page_bytes);
    }
    return 0;
}
