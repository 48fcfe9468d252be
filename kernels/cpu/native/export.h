// What a function of the C interface is declared with: `EXPORT int64_t baton_name(...)`, 0 for done.
#pragma once
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))
