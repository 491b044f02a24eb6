// Input: what libFuzzer made up, taken field by field.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cairn::testing {

// Zeroes when it has run out.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : left_(data, size) {}
  uint32_t number(int bytes) {
    uint32_t value = 0;
    for (; bytes > 0 && !left_.empty(); --bytes, left_ = left_.subspan(1)) {
      value = value << 8 | left_.front();
    }
    return value;
  }
  std::string text(std::size_t length) {
    length = std::min(length, left_.size());
    std::string out(reinterpret_cast<const char*>(left_.data()), length);
    left_ = left_.subspan(length);
    return out;
  }
  [[nodiscard]] bool empty() const { return left_.empty(); }

 private:
  std::span<const uint8_t> left_;
};

}  // namespace cairn::testing
