// cairn-io: requests in the background.
#include <array>

#include <fmt/format.h>

#include "tools/common/report.h"
#include "tools/io/io.h"
#include "tools/io/request.h"
#include "tools/io/text.h"

namespace cairn::tools {
namespace {

// One request in the background; prints its own outcome.
io::Task<void> read_in_background(block::Edge& root, Transfer transfer, io::AlignedBuffer buffer) {
  const auto begin = IoClock::now();
  io::IoVector vector = vector_of(buffer.span(), transfer.lengths);
  Result<void> result = co_await root.read(transfer.offset, std::move(vector));
  (void)finish_read(transfer, result, buffer.span(), begin);
}

io::Task<void> write_in_background(block::Edge& root, Transfer transfer, io::AlignedBuffer buffer) {
  const auto begin = IoClock::now();
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
    return misuse_of_io_command("aio_read");
  }
  if (!parse_vector(operands, transfer)) {
    return 1;
  }
  transfer.command = "readv";
  auto buffer = filled_buffer(transfer.size, kIoReadFill);
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
  transfer.zero_flags.fua = shell.request().cache.writethrough;
  std::vector<std::string> operands;
  if (!parse_transfer(arguments, kSpecs, transfer, operands)) {
    return 1;
  }
  if (transfer.invalid) {
    fmt::print("injecting invalid write request\n");
    return 0;
  }
  if (operands.size() < 2) {
    return misuse_of_io_command("aio_write");
  }
  if (transfer.zero && operands.size() != 2) {
    fmt::print("-z supports only a single length parameter\n");
    return 1;
  }
  if (transfer.zero_flags.may_unmap && !transfer.zero) {
    fmt::print("-u requires -z to be specified\n");
    return 1;
  }
  if (!parse_vector(operands, transfer)) {
    return 1;
  }
  auto buffer = filled_buffer(transfer.zero ? 0 : transfer.size,
                              transfer.pattern ? std::byte{*transfer.pattern} : kIoWriteFill);
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
