// NullDriver: answers every request at once, or after a fixed time. Reads are filled with zeroes
// whether or not `read-zeroes` promises it: memory of this program must not reach a client.
#pragma once

#include "block/driver.h"
#include "io/backend.h"

namespace cairn::null {

struct NullParameters {
  uint64_t length = uint64_t{1} << 30;  // bytes
  io::Duration latency{0};              // of every request
  bool read_zeroes = false;             // block status says that everything is zero
};

class NullDriver final : public block::RequestDriver {
 public:
  explicit NullDriver(NullParameters parameters) : parameters_(parameters) {}

  [[nodiscard]] std::optional<bool> dirty() const override { return std::nullopt; }
  [[nodiscard]] uint64_t length() const override { return parameters_.length; }
  [[nodiscard]] block::Limits limits() const override { return {.native_fua = true}; }
  [[nodiscard]] int64_t allocated_size() const override { return 0; }

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;

 private:
  // The answer to a request that has nothing to do.
  [[nodiscard]] io::Task<Result<void>> answer() const;

  const NullParameters parameters_;
};

}  // namespace cairn::null
