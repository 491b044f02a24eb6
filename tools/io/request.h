// One request as cairn-io's commands read it from their arguments, and how its outcome is shown.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/driver.h"
#include "io/buffer.h"
#include "io/iovector.h"
#include "tools/common/options.h"
#include "tools/io/io.h"

namespace cairn::tools {

using IoClock = std::chrono::steady_clock;

// What buffers hold when nothing else is said.
inline constexpr std::byte kIoReadFill{0xab};
inline constexpr std::byte kIoWriteFill{0xcd};

// What a command line asks for, of whatever command.
struct Transfer {
  std::string_view command;
  uint64_t offset = 0;
  std::vector<uint64_t> lengths;  // one a buffer
  uint64_t size = 0;              // the sum
  std::optional<uint8_t> pattern;
  std::optional<uint64_t> check_offset;
  std::optional<uint64_t> check_length;
  std::string source_file;
  bool machine_readable = false;
  bool quiet = false;
  bool dump = false;
  bool zero = false;
  bool vm_state = false;
  bool invalid = false;
  block::WriteFlags write_flags;
  block::ZeroFlags zero_flags;
};

// Prints how the command is used; 1, for the command to return.
int misuse_of_io_command(std::string_view command);

// Reads the options of a command, which `specs` lists, and leaves what is no option in `operands`.
// Tells what is wrong and returns false.
[[nodiscard]] bool parse_transfer(const IoArguments& arguments, std::span<const OptionSpec> specs,
                                  Transfer& transfer, std::vector<std::string>& operands);

// Reads "offset length length…" of a vectored request. Tells what is wrong and returns false.
[[nodiscard]] bool parse_vector(const std::vector<std::string>& operands, Transfer& transfer);

// Cuts one buffer into the pieces that the command line asked for.
[[nodiscard]] io::IoVector vector_of(std::span<std::byte> bytes,
                                     const std::vector<uint64_t>& lengths);

[[nodiscard]] Result<io::AlignedBuffer> filled_buffer(uint64_t size, std::byte value);

// Tells how a request ended; the command's result. A read is checked against the pattern.
int finish_read(const Transfer& transfer, const Result<void>& result,
                std::span<const std::byte> bytes, IoClock::time_point begin);
int finish_write(const Transfer& transfer, const Result<void>& result, IoClock::time_point begin);

}  // namespace cairn::tools
