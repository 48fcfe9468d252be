// The threads that all native operators share.
//
//     parallel_for(count, [&](int64_t index) { ... });
//
// calls the body for 0 .. count - 1, each once, on the caller and the pool's threads, and returns when all are done. Tasks
// are handed out in order of index. Bodies may not throw, and may not call parallel_for. Which thread computes which index
// is left to chance, so a result must not depend on it.
#pragma once
#include <cstdint>
#include <type_traits>

namespace baton {

using Body = void (*)(void* context, int64_t index);

// How many threads compute, the caller included.
int num_threads();

void run_tasks(int64_t count, Body body, void* context);

template <class Function>
void parallel_for(int64_t count, Function&& function) {
    if (count == 1 || num_threads() == 1) {
        for (int64_t index = 0; index < count; ++index) function(index);
        return;
    }
    using Plain = std::remove_reference_t<Function>;
    run_tasks(count, [](void* context, int64_t index) { (*static_cast<Plain*>(context))(index); }, (void*)&function);
}

}  // namespace baton
