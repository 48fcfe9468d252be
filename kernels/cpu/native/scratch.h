// Memory that an operator uses while it runs: one buffer per thread and place, grown and kept.
#pragma once
#include <cstdint>
#include <cstdlib>

namespace baton {

class Scratch {
public:
    ~Scratch() { std::free(data_); }

    char* take(int64_t bytes) {
        if (bytes > size_) {
            std::free(data_);
            size_ = (bytes + bytes / 4 + 4095) / 4096 * 4096;
            data_ = static_cast<char*>(std::aligned_alloc(4096, size_));
            if (data_ == nullptr) std::abort();
        }
        return data_;
    }

private:
    char* data_ = nullptr;
    int64_t size_ = 0;
};

// At least `bytes`, aligned to a page, undefined content; valid until this thread takes the same place again.
template <int place>
char* scratch(int64_t bytes) {
    static thread_local Scratch own;
    return own.take(bytes);
}

}  // namespace baton
