#include "tests/exports/nbd/memory_driver.h"

#include <algorithm>
#include <cerrno>

#include "io/zero.h"

namespace cairn::testing {
namespace {

MemoryDisk* current_disk = nullptr;

Result<void> outcome(int error) {
  if (error != 0) {
    return fail_errno(error, "Injected");
  }
  return {};
}

io::Task<Result<std::unique_ptr<block::Driver>>> open_memory(
    block::OpenContext& /*context*/, const schema::BlockdevOptions& /*options*/) {
  co_return std::unique_ptr<block::Driver>(std::make_unique<MemoryDriver>(*current_disk));
}

io::Task<Result<std::unique_ptr<block::Driver>>> open_zeroes(
    block::OpenContext& /*context*/, const schema::BlockdevOptions& /*options*/) {
  co_return std::unique_ptr<block::Driver>(std::make_unique<ZeroDriver>());
}

}  // namespace

bool ZeroDriver::try_map(uint64_t offset, uint64_t length, block::Extent& extent) {
  const bool first_half = offset < kLength / 2;
  extent.kind = first_half ? block::Extent::Kind::kZero : block::Extent::Kind::kHole;
  extent.length = first_half ? std::min(length, kLength / 2 - offset) : length;
  return true;
}

io::Task<Result<block::Extent>> ZeroDriver::map(uint64_t offset, uint64_t length) {
  block::Extent extent;
  (void)try_map(offset, length, extent);
  co_return extent;
}

const block::DriverInfo& zero_driver_info() {
  static const block::DriverInfo kInfo{
      .name = "null-aio", .kind = block::DriverInfo::Kind::kFormat, .open = open_zeroes};
  return kInfo;
}

io::Task<void> MemoryDriver::pass_gate() {
  ++disk_.waiting;
  while (!disk_.open_gate.is_set()) {
    (void)co_await disk_.open_gate.wait();
  }
  --disk_.waiting;
}

io::Task<Result<void>> MemoryDriver::read(uint64_t offset, io::IoVector data) {
  ++disk_.reads;
  co_await pass_gate();
  data.copy_from(0, std::span(disk_.bytes).subspan(offset, data.size()));
  co_return outcome(disk_.read_error);
}

io::Task<Result<void>> MemoryDriver::write(uint64_t offset, io::IoVector data,
                                           block::WriteFlags /*flags*/) {
  ++disk_.writes;
  co_await pass_gate();
  if (disk_.write_error == 0) {
    data.copy_to(0, std::span(disk_.bytes).subspan(offset, data.size()));
  }
  co_return outcome(disk_.write_error);
}

io::Task<Result<void>> MemoryDriver::write_zeroes(uint64_t offset, uint64_t length,
                                                  block::ZeroFlags flags) {
  disk_.last_zero = flags;
  co_await pass_gate();
  if (disk_.zero_error == 0) {
    std::ranges::fill(std::span(disk_.bytes).subspan(offset, length), std::byte{0});
  }
  co_return outcome(disk_.zero_error);
}

io::Task<Result<void>> MemoryDriver::discard(uint64_t offset, uint64_t length) {
  ++disk_.discards;
  co_await pass_gate();
  std::ranges::fill(std::span(disk_.bytes).subspan(offset, length), std::byte{0});
  co_return Result<void>{};
}

io::Task<Result<void>> MemoryDriver::flush() {
  ++disk_.flushes;
  co_await pass_gate();
  co_return outcome(disk_.write_error);
}

io::Task<Result<block::BlockStatus>> MemoryDriver::status(uint64_t offset, uint64_t length) {
  const uint64_t unit = disk_.zero_granularity;
  const auto piece = [&](uint64_t at) {
    return std::span<const std::byte>(disk_.bytes)
        .subspan(at, std::min(unit - at % unit, disk_.bytes.size() - at));
  };
  block::BlockStatus status;
  status.zero = io::is_zero(piece(offset));
  status.data = !status.zero;
  status.allocated = true;
  status.length = std::min<uint64_t>(piece(offset).size(), length);
  co_return status;
}

const block::DriverInfo& memory_driver_info(MemoryDisk& disk) {
  static const block::DriverInfo kInfo{
      .name = "null-co", .kind = block::DriverInfo::Kind::kProtocol, .open = open_memory};
  current_disk = &disk;
  return kInfo;
}

}  // namespace cairn::testing
