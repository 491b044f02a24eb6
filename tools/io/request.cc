// cairn-io: reading a request's arguments, and showing its outcome.
#include "tools/io/request.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "tools/io/limits.h"
#include "tools/io/text.h"

namespace cairn::tools {
namespace {

std::string error_text(const Error& error) { return std::strerror(error.code()); }

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

void report(const Transfer& transfer, std::string_view verb, IoClock::time_point begin) {
  print_io_figures({.verb = verb,
                    .offset = transfer.offset,
                    .asked = transfer.size,
                    .done = transfer.size,
                    .elapsed = IoClock::now() - begin,
                    .machine_readable = transfer.machine_readable});
}

}  // namespace

int misuse_of_io_command(std::string_view command) {
  print_io_usage(command);
  return 1;
}

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
        return true;  // nothing else is looked at
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
  if (buffer && size > 0) {
    std::memset(buffer->data(), static_cast<int>(value), size);
  }
  return buffer;
}

bool parse_vector(const std::vector<std::string>& operands, Transfer& transfer) {
  const auto offset = parse_io_number(operands[0]);
  if (!offset || !parse_lengths(std::span(operands).subspan(1), transfer)) {
    return false;
  }
  transfer.offset = *offset;
  return true;
}

int finish_read(const Transfer& transfer, const Result<void>& result,
                std::span<const std::byte> bytes, IoClock::time_point begin) {
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

int finish_write(const Transfer& transfer, const Result<void>& result, IoClock::time_point begin) {
  if (!result) {
    fmt::print("{} failed: {}\n", transfer.command, error_text(result.error()));
    return 1;
  }
  if (!transfer.quiet) {
    report(transfer, "wrote", begin);
  }
  return 0;
}

}  // namespace cairn::tools
