// Patterns: guest data that says which write it came from.
//
// Every write of a test has a number of its own, and each aligned word it writes is a bijection of
// that number and of the guest offset. So data that turns up in the wrong place, or at the wrong
// time, names where it came from. Number 0 stands for zeroes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cairn::testing {

using WriteNumber = uint64_t;
inline constexpr WriteNumber kZeroes = 0;

// Fills `out` with what write `number` puts at guest `offset` (bytes, any alignment).
void fill_pattern(WriteNumber number, uint64_t offset, std::span<std::byte> out);

// How many bytes at the start of `data`, which was read at `offset`, are those of write `number`.
[[nodiscard]] uint64_t matching_prefix(WriteNumber number, uint64_t offset,
                                       std::span<const std::byte> data);

// What the first whole word in `data` holds, for messages: "zeroes", "write 5 at offset 4096", …
[[nodiscard]] std::string describe_data(uint64_t offset, std::span<const std::byte> data);

}  // namespace cairn::testing
