// Requests to null devices.
#include "protocols/null/null_driver.h"

#include "io/timer.h"

namespace cairn::null {

io::Task<Result<void>> NullDriver::answer() const {
  if (parameters_.latency.count() > 0) {
    co_await io::sleep_for(parameters_.latency);
  }
  co_return Result<void>{};
}

io::Task<Result<void>> NullDriver::read(uint64_t /*offset*/, io::IoVector data) {
  data.fill(std::byte{0});
  return answer();
}

io::Task<Result<void>> NullDriver::write(uint64_t /*offset*/, io::IoVector /*data*/,
                                         block::WriteFlags /*flags*/) {
  return answer();
}

io::Task<Result<void>> NullDriver::write_zeroes(uint64_t /*offset*/, uint64_t /*length*/,
                                                block::ZeroFlags /*flags*/) {
  return answer();
}

io::Task<Result<void>> NullDriver::discard(uint64_t /*offset*/, uint64_t /*length*/) {
  return answer();
}

io::Task<Result<void>> NullDriver::flush() { return answer(); }

io::Task<Result<block::BlockStatus>> NullDriver::status(uint64_t offset, uint64_t length) {
  co_return block::BlockStatus{.length = length,
                               .zero = parameters_.read_zeroes,
                               .allocated = parameters_.read_zeroes,
                               .host = node_,
                               .host_offset = offset};
}

}  // namespace cairn::null
