// MemoryDriver: a node whose bytes are a vector, for tests of exports. It can hold requests back,
// fail them, and says what it was asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "block/driver.h"
#include "block/driver_table.h"
#include "io/event.h"

namespace cairn::testing {

// What the driver works on and obeys; owned by the test, outlives the node.
struct MemoryDisk {
  explicit MemoryDisk(std::size_t size) : bytes(size) {}

  std::vector<std::byte> bytes;
  io::Event open_gate{true};  // requests wait while it is not set
  int read_error = 0;         // an errno to fail with
  int write_error = 0;
  int zero_error = 0;
  uint64_t zero_granularity = 65536;  // status looks for zeroes in units of this

  int reads = 0;
  int writes = 0;
  int flushes = 0;
  int discards = 0;
  int waiting = 0;  // requests that wait at the gate
  block::ZeroFlags last_zero;
};

class MemoryDriver final : public block::RequestDriver {
 public:
  explicit MemoryDriver(MemoryDisk& disk) : disk_(disk) {}

  [[nodiscard]] uint64_t length() const override { return disk_.bytes.size(); }
  io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                               block::WriteFlags flags) override;
  io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                      block::ZeroFlags flags) override;
  io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  io::Task<Result<void>> flush() override;
  io::Task<Result<block::BlockStatus>> status(uint64_t offset, uint64_t length) override;

 private:
  io::Task<void> pass_gate();

  MemoryDisk& disk_;
};

// A translating node that is half zeroes, half holes without anything behind them.
class ZeroDriver final : public block::TranslatingDriver {
 public:
  static constexpr uint64_t kLength = 1 << 20;

  [[nodiscard]] uint64_t length() const override { return kLength; }
  [[nodiscard]] uint64_t allocation_unit() const override { return 65536; }
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, block::Extent& extent) override;
  [[nodiscard]] io::Task<Result<block::Extent>> map(uint64_t offset, uint64_t length) override;
};

// Its entry in the driver table, under the name "null-aio".
[[nodiscard]] const block::DriverInfo& zero_driver_info();

// The driver table's entry, under the name of a driver that the interface knows: "null-co". Nodes
// that are opened by it work on `disk`, which is the same for all.
[[nodiscard]] const block::DriverInfo& memory_driver_info(MemoryDisk& disk);

}  // namespace cairn::testing
