// cairn-io: commands that move data.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "base/sector.h"
#include "tools/common/report.h"
#include "tools/io/io.h"
#include "tools/io/limits.h"
#include "tools/io/request.h"
#include "tools/io/text.h"

namespace cairn::tools {
namespace {

// Fills a buffer with the content of a file, over and over. Tells what is wrong and returns false.
bool fill_from_file(const std::string& name, std::span<std::byte> bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(name.c_str(), "rb"),
                                                             std::fclose);
  if (file == nullptr) {
    fmt::print(stderr, "{}: {}\n", name, std::strerror(errno));
    return false;
  }
  const size_t count = std::fread(bytes.data(), 1, bytes.size(), file.get());
  if (std::ferror(file.get()) != 0) {
    fmt::print(stderr, "{}: {}\n", name, std::strerror(errno));
    return false;
  }
  if (count == 0) {
    fmt::print(stderr, "{}: file is empty\n", name);
    return false;
  }
  for (size_t done = count; done < bytes.size(); done += count) {
    std::memcpy(bytes.data() + done, bytes.data(), std::min(count, bytes.size() - done));
  }
  return true;
}

int run_read(IoShell& shell, const Transfer& transfer) {
  auto buffer = filled_buffer(transfer.size, kIoReadFill);
  if (!buffer) {
    report_error(buffer.error());
    return 1;
  }
  const auto begin = IoClock::now();
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
    const auto begin = IoClock::now();
    const Result<void> result =
        shell.session().run(root.write_zeroes(transfer.offset, transfer.size, transfer.zero_flags));
    return finish_write(transfer, result, begin);
  }
  auto buffer =
      filled_buffer(transfer.size, transfer.pattern ? std::byte{*transfer.pattern} : kIoWriteFill);
  if (!buffer) {
    report_error(buffer.error());
    return 1;
  }
  if (!transfer.source_file.empty() && !fill_from_file(transfer.source_file, buffer->span())) {
    return 1;
  }
  const auto begin = IoClock::now();
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
               transfer.command == "write" ? " without -n" : "", operands[1]);
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

}  // namespace

int io_read(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'b', nullptr, false}, OptionSpec{'C', nullptr, false},
                                 OptionSpec{'l', nullptr, true},  OptionSpec{'p', nullptr, false},
                                 OptionSpec{'P', nullptr, true},  OptionSpec{'q', nullptr, false},
                                 OptionSpec{'r', nullptr, false}, OptionSpec{'s', nullptr, true},
                                 OptionSpec{'v', nullptr, false}};
  Transfer transfer{.command = "read"};
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (operands.size() != 2) {
    return misuse_of_io_command("read");
  }
  if (!parse_range(operands, transfer)) {
    return 1;
  }
  const bool window = transfer.check_offset || transfer.check_length;
  if (!transfer.pattern && window) {
    return misuse_of_io_command("read");
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
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (operands.size() != 2) {
    return misuse_of_io_command("write");
  }
  if (const std::string_view wrong = write_contradiction(transfer); !wrong.empty()) {
    fmt::print("{}\n", wrong);
    return 1;
  }
  if (shell.request().cache.writethrough) {
    transfer.write_flags.fua = true;
    transfer.zero_flags.fua = true;
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
    return misuse_of_io_command("readv");
  }
  if (!parse_vector(operands, transfer)) {
    return 1;
  }
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
    return misuse_of_io_command("writev");
  }
  if (!parse_vector(operands, transfer)) {
    return 1;
  }
  return run_write(shell, transfer);
}

}  // namespace cairn::tools
