// cairn-io: commands that move data.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "io/buffer.h"
#include "io/iovector.h"
#include "tools/common_options.h"
#include "tools/common_report.h"
#include "tools/io.h"
#include "tools/io_limits.h"
#include "tools/io_text.h"

namespace cairn::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kSector = 512;
constexpr std::byte kReadFill{0xab};
constexpr std::byte kWriteFill{0xcd};

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

std::string error_text(const Error& error) { return std::strerror(error.code()); }

int misuse(std::string_view command) {
  print_io_usage(command);
  return 1;
}

// Reads "-P 5 -q offset length…". The letters say which options the command has; those that take
// values are followed by a colon. Tells what is wrong and returns false.
bool parse_transfer(const IoArguments& arguments, std::span<const OptionSpec> specs,
                    Transfer& transfer, std::vector<std::string>& operands) {
  OptionReader reader(arguments[0], std::span(arguments).subspan(1), specs);
  while (const auto option = reader.next()) {
    switch (option->id) {
      case 'C':
        transfer.machine_readable = true;
        break;
      case 'q':
        transfer.quiet = true;
        break;
      case 'v':
        transfer.dump = true;
        break;
      case 'b':
        transfer.vm_state = true;
        break;
      case 'c':
        transfer.write_flags.compressed = true;
        break;
      case 'f':
        transfer.write_flags.fua = true;
        transfer.zero_flags.fua = true;
        break;
      case 'i':
        transfer.invalid = true;
        break;
      case 'n':
        transfer.zero_flags.no_fallback = true;
        break;
      case 'u':
        transfer.zero_flags.may_unmap = true;
        break;
      case 'z':
        transfer.zero = true;
        break;
      case 'P':
        transfer.pattern = parse_io_pattern(option->value);
        if (!transfer.pattern) {
          return false;
        }
        break;
      case 'l':
      case 's': {
        if (transfer.command == "write") {
          transfer.source_file = option->value;
          break;
        }
        auto& target = option->id == 'l' ? transfer.check_length : transfer.check_offset;
        target = parse_io_number(option->value);
        if (!target) {
          return false;
        }
        break;
      }
      case 'a':
      case 'p':
      case 'r':
        break;  // accepted for scripts of old
      default:
        print_io_usage(transfer.command);
        return false;
    }
  }
  operands = reader.operands();
  return true;
}

// Reads the lengths of the buffers of a vectored request.
bool parse_lengths(std::span<const std::string> texts, Transfer& transfer) {
  for (const std::string& text : texts) {
    const auto length = parse_io_number(text);
    if (!length) {
      return false;
    }
    if (*length > kLargestIoRequest || transfer.size + *length > kLargestIoRequest) {
      fmt::print("Argument '{}' exceeds maximum size {}\n", text, kLargestIoRequest);
      return false;
    }
    transfer.lengths.push_back(*length);
    transfer.size += *length;
  }
  return true;
}

// Cuts one buffer into the pieces that the command line asked for.
io::IoVector vector_of(std::span<std::byte> bytes, const std::vector<uint64_t>& lengths) {
  io::IoVector vector;
  uint64_t offset = 0;
  for (const uint64_t length : lengths) {
    if (length != 0) {
      vector.append(bytes.data() + offset, length);
      offset += length;
    }
  }
  return vector;
}

Result<io::AlignedBuffer> filled_buffer(uint64_t size, std::byte value) {
  auto buffer = io::AlignedBuffer::allocate(size);
  if (buffer) {
    std::memset(buffer->data(), static_cast<int>(value), size);
  }
  return buffer;
}

// Fills a buffer with the content of a file, over and over. Tells what is wrong and returns false.
bool fill_from_file(const std::string& name, std::span<std::byte> bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(name.c_str(), "rb"),
                                                             std::fclose);
  if (file == nullptr) {
    fmt::print("{}: {}\n", name, std::strerror(errno));
    return false;
  }
  const size_t count = std::fread(bytes.data(), 1, bytes.size(), file.get());
  if (std::ferror(file.get()) != 0) {
    fmt::print("{}: {}\n", name, std::strerror(errno));
    return false;
  }
  if (count == 0) {
    fmt::print("{}: file is empty\n", name);
    return false;
  }
  for (size_t done = count; done < bytes.size(); done += count) {
    std::memcpy(bytes.data() + done, bytes.data(), std::min(count, bytes.size() - done));
  }
  return true;
}

// What was read is all pattern, where it is to be; otherwise tells so.
bool verify_pattern(const Transfer& transfer, std::span<const std::byte> bytes) {
  if (!transfer.pattern) {
    return true;
  }
  const uint64_t begin = transfer.check_offset.value_or(0);
  const uint64_t length = transfer.check_length.value_or(transfer.size - begin);
  const std::byte expected{*transfer.pattern};
  if (std::ranges::all_of(bytes.subspan(begin, length),
                          [expected](std::byte byte) { return byte == expected; })) {
    return true;
  }
  fmt::print("Pattern verification failed at offset {}, {} bytes\n", transfer.offset + begin,
             length);
  return false;
}

void report(const Transfer& transfer, std::string_view verb, Clock::time_point begin) {
  print_io_figures({.verb = verb,
                    .offset = transfer.offset,
                    .asked = transfer.size,
                    .done = transfer.size,
                    .elapsed = Clock::now() - begin,
                    .machine_readable = transfer.machine_readable});
}

int finish_read(const Transfer& transfer, const Result<void>& result,
                std::span<const std::byte> bytes, Clock::time_point begin) {
  if (!result) {
    fmt::print("{} failed: {}\n", transfer.command, error_text(result.error()));
    return 1;
  }
  const bool right = verify_pattern(transfer, bytes);
  if (!transfer.quiet) {
    if (transfer.dump) {
      print_io_buffer(bytes, transfer.offset);
    }
    report(transfer, "read", begin);
  }
  return right ? 0 : 1;
}

int finish_write(const Transfer& transfer, const Result<void>& result, Clock::time_point begin) {
  if (!result) {
    fmt::print("{} failed: {}\n", transfer.command, error_text(result.error()));
    return 1;
  }
  if (!transfer.quiet) {
    report(transfer, "wrote", begin);
  }
  return 0;
}

int run_read(IoShell& shell, const Transfer& transfer) {
  auto buffer = filled_buffer(transfer.size, kReadFill);
  if (!buffer) {
    report_error(buffer.error());
    return 1;
  }
  const auto begin = Clock::now();
  Result<void> result;
  if (transfer.vm_state) {
    result = fail_errno(ENOTSUP, "Reading the machine's state");
  } else {
    result = shell.session().run(
        shell.root().read(transfer.offset, vector_of(buffer->span(), transfer.lengths)));
  }
  return finish_read(transfer, result, buffer->span(), begin);
}

int run_write(IoShell& shell, const Transfer& transfer) {
  block::Edge& root = shell.root();
  if (transfer.zero) {
    const auto begin = Clock::now();
    const Result<void> result =
        shell.session().run(root.write_zeroes(transfer.offset, transfer.size, transfer.zero_flags));
    return finish_write(transfer, result, begin);
  }
  auto buffer =
      filled_buffer(transfer.size, transfer.pattern ? std::byte{*transfer.pattern} : kWriteFill);
  if (!buffer) {
    report_error(buffer.error());
    return 1;
  }
  if (!transfer.source_file.empty() && !fill_from_file(transfer.source_file, buffer->span())) {
    return 1;
  }
  const auto begin = Clock::now();
  Result<void> result;
  if (transfer.vm_state) {
    result = fail_errno(ENOTSUP, "Writing the machine's state");
  } else {
    result = shell.session().run(root.write(
        transfer.offset, vector_of(buffer->span(), transfer.lengths), transfer.write_flags));
  }
  return finish_write(transfer, result, begin);
}

bool is_sector_aligned(uint64_t value, std::string_view what) {
  if (value % kSector == 0) {
    return true;
  }
  fmt::print("{} is not a sector-aligned value for '{}'\n", value, what);
  return false;
}

// Reads "offset length" of read and write.
bool parse_range(const std::vector<std::string>& operands, Transfer& transfer) {
  const auto offset = parse_io_number(operands[0]);
  const auto length = offset ? parse_io_number(operands[1]) : std::nullopt;
  if (!length) {
    return false;
  }
  const bool unlimited = transfer.zero && transfer.zero_flags.no_fallback;
  if (*length > kLargestIoRequest && !unlimited) {
    fmt::print("length cannot exceed {}{}, given {}\n", kLargestIoRequest,
               transfer.zero ? " without -n" : "", operands[1]);
    return false;
  }
  transfer.offset = *offset;
  transfer.lengths = {*length};
  transfer.size = *length;
  return true;
}

// What the options of write rule out; empty when nothing.
std::string_view write_contradiction(const Transfer& transfer) {
  if (transfer.vm_state && transfer.zero) {
    return "-b and -z cannot be specified at the same time";
  }
  if (transfer.write_flags.fua && (transfer.vm_state || transfer.write_flags.compressed)) {
    return "-f and -b or -c cannot be specified at the same time";
  }
  if (transfer.zero_flags.no_fallback && !transfer.zero) {
    return "-n requires -z to be specified";
  }
  if (transfer.zero_flags.may_unmap && !transfer.zero) {
    return "-u requires -z to be specified";
  }
  const int kinds =
      (transfer.zero ? 1 : 0) + (transfer.pattern ? 1 : 0) + (transfer.source_file.empty() ? 0 : 1);
  if (kinds > 1) {
    return "Only one of -z, -P, and -s can be specified at the same time";
  }
  return {};
}

// One request in the background; prints its own outcome.
io::Task<void> read_in_background(block::Edge& root, Transfer transfer, io::AlignedBuffer buffer) {
  const auto begin = Clock::now();
  io::IoVector vector = vector_of(buffer.span(), transfer.lengths);
  Result<void> result = co_await root.read(transfer.offset, std::move(vector));
  (void)finish_read(transfer, result, buffer.span(), begin);
}

io::Task<void> write_in_background(block::Edge& root, Transfer transfer, io::AlignedBuffer buffer) {
  const auto begin = Clock::now();
  Result<void> result;
  if (transfer.zero) {
    result = co_await root.write_zeroes(transfer.offset, transfer.size, transfer.zero_flags);
  } else {
    io::IoVector vector = vector_of(buffer.span(), transfer.lengths);
    result = co_await root.write(transfer.offset, std::move(vector), transfer.write_flags);
  }
  (void)finish_write(transfer, result, begin);
}

}  // namespace

int io_read(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'a', nullptr, false}, OptionSpec{'b', nullptr, false},
                                 OptionSpec{'C', nullptr, false}, OptionSpec{'l', nullptr, true},
                                 OptionSpec{'p', nullptr, false}, OptionSpec{'P', nullptr, true},
                                 OptionSpec{'q', nullptr, false}, OptionSpec{'r', nullptr, false},
                                 OptionSpec{'s', nullptr, true},  OptionSpec{'v', nullptr, false}};
  Transfer transfer{.command = "read"};
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (operands.size() != 2) {
    return misuse("read");
  }
  if (!parse_range(operands, transfer)) {
    return 1;
  }
  const bool window = transfer.check_offset || transfer.check_length;
  if (!transfer.pattern && window) {
    return misuse("read");
  }
  const uint64_t begin = transfer.check_offset.value_or(0);
  if (begin > transfer.size || transfer.check_length.value_or(0) > transfer.size - begin) {
    fmt::print("pattern verification range exceeds end of read data\n");
    return 1;
  }
  if (transfer.vm_state && (!is_sector_aligned(transfer.offset, "offset") ||
                            !is_sector_aligned(transfer.size, "count"))) {
    return 1;
  }
  return run_read(shell, transfer);
}

int io_write(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'b', nullptr, false}, OptionSpec{'c', nullptr, false},
                                 OptionSpec{'C', nullptr, false}, OptionSpec{'f', nullptr, false},
                                 OptionSpec{'n', nullptr, false}, OptionSpec{'p', nullptr, false},
                                 OptionSpec{'P', nullptr, true},  OptionSpec{'q', nullptr, false},
                                 OptionSpec{'r', nullptr, false}, OptionSpec{'s', nullptr, true},
                                 OptionSpec{'u', nullptr, false}, OptionSpec{'z', nullptr, false}};
  Transfer transfer{.command = "write"};
  transfer.write_flags.fua = shell.request().cache.writethrough;
  transfer.zero_flags.fua = shell.request().cache.writethrough;
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (operands.size() != 2) {
    return misuse("write");
  }
  if (const std::string_view wrong = write_contradiction(transfer); !wrong.empty()) {
    fmt::print("{}\n", wrong);
    return 1;
  }
  if (!parse_range(operands, transfer)) {
    return 1;
  }
  if ((transfer.vm_state || transfer.write_flags.compressed) &&
      (!is_sector_aligned(transfer.offset, "offset") ||
       !is_sector_aligned(transfer.size, "count"))) {
    return 1;
  }
  return run_write(shell, transfer);
}

int io_readv(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'C', nullptr, false}, OptionSpec{'P', nullptr, true},
                                 OptionSpec{'q', nullptr, false}, OptionSpec{'r', nullptr, false},
                                 OptionSpec{'v', nullptr, false}};
  Transfer transfer{.command = "readv"};
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (operands.size() < 2) {
    return misuse("readv");
  }
  const auto offset = parse_io_number(operands[0]);
  if (!offset || !parse_lengths(std::span(operands).subspan(1), transfer)) {
    return 1;
  }
  transfer.offset = *offset;
  return run_read(shell, transfer);
}

int io_writev(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'C', nullptr, false}, OptionSpec{'f', nullptr, false},
                                 OptionSpec{'P', nullptr, true}, OptionSpec{'q', nullptr, false},
                                 OptionSpec{'r', nullptr, false}};
  Transfer transfer{.command = "writev"};
  transfer.write_flags.fua = shell.request().cache.writethrough;
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (operands.size() < 2) {
    return misuse("writev");
  }
  const auto offset = parse_io_number(operands[0]);
  if (!offset || !parse_lengths(std::span(operands).subspan(1), transfer)) {
    return 1;
  }
  transfer.offset = *offset;
  return run_write(shell, transfer);
}

int io_aio_read(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'C', nullptr, false}, OptionSpec{'i', nullptr, false},
                                 OptionSpec{'P', nullptr, true},  OptionSpec{'q', nullptr, false},
                                 OptionSpec{'r', nullptr, false}, OptionSpec{'v', nullptr, false}};
  Transfer transfer{.command = "aio_read"};
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (transfer.invalid) {
    fmt::print("injecting invalid read request\n");
    return 0;
  }
  if (operands.size() < 2) {
    return misuse("aio_read");
  }
  const auto offset = parse_io_number(operands[0]);
  if (!offset || !parse_lengths(std::span(operands).subspan(1), transfer)) {
    return 1;
  }
  transfer.offset = *offset;
  transfer.command = "readv";
  auto buffer = filled_buffer(transfer.size, kReadFill);
  if (!buffer) {
    report_error(buffer.error());
    return 1;
  }
  shell.background().spawn(
      read_in_background(shell.root(), std::move(transfer), std::move(*buffer)));
  return 0;
}

int io_aio_write(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'C', nullptr, false}, OptionSpec{'f', nullptr, false},
                                 OptionSpec{'i', nullptr, false}, OptionSpec{'P', nullptr, true},
                                 OptionSpec{'q', nullptr, false}, OptionSpec{'r', nullptr, false},
                                 OptionSpec{'u', nullptr, false}, OptionSpec{'z', nullptr, false}};
  Transfer transfer{.command = "aio_write"};
  transfer.write_flags.fua = shell.request().cache.writethrough;
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (transfer.invalid) {
    fmt::print("injecting invalid write request\n");
    return 0;
  }
  if (operands.size() < 2) {
    return misuse("aio_write");
  }
  if (transfer.zero && operands.size() != 2) {
    fmt::print("-z supports only a single length parameter\n");
    return 1;
  }
  if (transfer.zero_flags.may_unmap && !transfer.zero) {
    fmt::print("-u requires -z to be specified\n");
    return 1;
  }
  const auto offset = parse_io_number(operands[0]);
  if (!offset || !parse_lengths(std::span(operands).subspan(1), transfer)) {
    return 1;
  }
  transfer.offset = *offset;
  auto buffer = filled_buffer(transfer.zero ? 0 : transfer.size,
                              transfer.pattern ? std::byte{*transfer.pattern} : kWriteFill);
  if (!buffer) {
    report_error(buffer.error());
    return 1;
  }
  shell.background().spawn(
      write_in_background(shell.root(), std::move(transfer), std::move(*buffer)));
  return 0;
}

int io_aio_flush(IoShell& shell, const IoArguments& /*arguments*/) {
  shell.wait_for_background();
  return 0;
}

}  // namespace cairn::tools
