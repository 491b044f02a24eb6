// RingBuffer: a character device in memory, which keeps the newest bytes that were written to it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chardev/device.h"

namespace cairn::chardev {

class RingBuffer final : public Device {
 public:
  // `size` is a power of two.
  RingBuffer(schema::ChardevBackendKind kind, size_t size) : Device(kind), bytes_(size) {}

  [[nodiscard]] io::Task<void> run(io::CancelToken token) override;

  void write(std::string_view text);
  // Takes the oldest bytes, at most so many.
  [[nodiscard]] std::string read(size_t most);

 private:
  std::vector<char> bytes_;
  // Bytes written and taken since the beginning; they lie in the buffer at their number modulo its
  // size.
  uint64_t written_ = 0;
  uint64_t taken_ = 0;
};

}  // namespace cairn::chardev
