// Pages as bytes: their digests, and copies between pages and contiguous staging. Bound by bytes.
//
//     digest[n] = (first_index + n + 1) k[0] + w[0] k[1] + ... + w[W-1] k[W]   modulo 2^64, w the 32-bit words of page n
//
// A word times a key is word * low half + (word * high half << 32). The second sum is shifted once, at its end, and needs
// 32 bits alone. Integers wrap, so the order of summation is the compiler's to choose, and each instruction set has its
// own. Keys are twice as large as a page: several pages are summed together, tile by tile, so that a tile of keys comes
// from the first cache for all pages but one. Copied on the way, pages come from memory once.
//
// None of them uses the pool of threads: digests are made beside the step loop, whose pool it is.
#include <algorithm>
#include <cstring>

#include "export.h"

namespace baton {
namespace {

constexpr int64_t kTile = 512;  // Words. Measured on Zen 4: tiles with 4 pages 22 to 25 GB/s, 1 page without tiles 11.
constexpr int kTogether = 4;
constexpr int64_t kStretch = 131072;  // Words. Measured on Zen 4, 4096 to 262144: a hand-over costs least from here on.

typedef uint32_t Word __attribute__((aligned(1), may_alias));

struct Keys {
    const uint32_t* low;
    const uint32_t* high;
};

// Adds words [start, end) of `kPages` pages to their sums.
template <int kPages>
void sum_words(const char* const* pages, int64_t start, int64_t end, Keys keys, uint64_t* low_sums, uint32_t* high_sums) {
    for (; start < end; start += kTile) {
        const int64_t count = std::min(kTile, end - start);
        for (int page = 0; page < kPages; ++page) {
            const char* const from = pages[page] + start * 4;
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
}

// Digests of `kPages` pages at `from`, but for their indexes. With `kMoves` they are copied to `into` as well: a stretch is
// summed, then copied out of a cache. In this order, so that bytes which come late are never summed and yet not copied.
template <int kPages, bool kMoves>
void digest_group(const char* const* from, char* const* into, int64_t page_bytes, Keys keys, uint64_t* digests) {
    const int64_t num_words = page_bytes / 4, stretch = kMoves ? kStretch : num_words;
    uint64_t low_sums[kPages] = {};
    uint32_t high_sums[kPages] = {};
    for (int64_t start = 0; start < num_words; start += stretch) {
        const int64_t end = std::min(num_words, start + stretch);
        sum_words<kPages>(from, start, end, keys, low_sums, high_sums);
        if (kMoves)
            for (int page = 0; page < kPages; ++page)
                std::memcpy(into[page] + start * 4, from[page] + start * 4, (end - start) * 4);
    }
    for (int page = 0; page < kPages; ++page)
        digests[page] = low_sums[page] + (static_cast<uint64_t>(high_sums[page]) << 32);
}

// `count` pages; the digest of the first counts as that of page `first_index`.
template <bool kMoves, typename From, typename Into>
void digest_pages(From from, Into into, int64_t page_bytes, int64_t count, Keys keys, int64_t position,
                  int64_t first_index, uint64_t* digests) {
    int64_t page = 0;
    const char* sources[kTogether];
    char* places[kTogether];
    for (; page < count; page += kTogether) {
        const int64_t together = std::min<int64_t>(kTogether, count - page);
        for (int64_t at = 0; at < together; ++at) sources[at] = from(page + at), places[at] = into(page + at);
        if (together == kTogether) {
            digest_group<kTogether, kMoves>(sources, places, page_bytes, keys, digests + page);
            continue;
        }
        for (int64_t at = 0; at < together; ++at)
            digest_group<1, kMoves>(sources + at, places + at, page_bytes, keys, digests + page + at);
    }
    for (page = 0; page < count; ++page)
        digests[page] += static_cast<uint64_t>(first_index + page + 1) * static_cast<uint64_t>(position);
}

}  // namespace
}  // namespace baton

// `pages`: contiguous, at any address. `low`, `high`: halves of k[1] .. k[W]. `position`: k[0].
EXPORT int64_t baton_page_digests(const char* pages, int64_t page_bytes, int64_t count, const uint32_t* low,
                                  const uint32_t* high, int64_t position, int64_t first_index, uint64_t* digests) {
    const auto from = [=](int64_t at) { return pages + at * page_bytes; };
    const auto nowhere = [](int64_t) { return static_cast<char*>(nullptr); };
    baton::digest_pages<false>(from, nowhere, page_bytes, count, baton::Keys{low, high}, position, first_index, digests);
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

// The same with the digests of what was copied, in the order of the buffer, in the copy's own pass.
EXPORT int64_t baton_move_pages(char* pages, int64_t page_bytes, const int64_t* numbers, int64_t count, char* buffer,
                                int64_t is_scatter, const uint32_t* low, const uint32_t* high, int64_t position,
                                int64_t first_index, uint64_t* digests) {
    const auto page = [=](int64_t at) { return pages + numbers[at] * page_bytes; };
    const auto place = [=](int64_t at) { return buffer + at * page_bytes; };
    const baton::Keys keys{low, high};
    if (is_scatter)
        baton::digest_pages<true>(place, page, page_bytes, count, keys, position, first_index, digests);
    else
        baton::digest_pages<true>(page, place, page_bytes, count, keys, position, first_index, digests);
    return 0;
}
