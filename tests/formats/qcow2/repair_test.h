// Repairing damaged qcow2 images in a simulated world: what it says, and what it leaves.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {

// An image as bytes, to be damaged by hand.
class RawImage {
 public:
  explicit RawImage(testing::SparseBytes bytes) : bytes_(std::move(bytes)) {}

  [[nodiscard]] testing::SparseBytes& bytes() { return bytes_; }
  [[nodiscard]] uint64_t field(uint64_t offset) const {
    return load_be<uint64_t>(bytes_.read(offset, 8).data());
  }
  void set(uint64_t offset, uint64_t value) {
    std::byte raw[8];
    store_be(raw, value);
    bytes_.write(offset, raw);
  }
  void set32(uint64_t offset, uint32_t value) {
    std::byte raw[4];
    store_be(raw, value);
    bytes_.write(offset, raw);
  }
  // Of 16 bits.
  void set_refcount(uint64_t cluster, uint16_t value) {
    std::byte raw[2];
    store_be(raw, value);
    bytes_.write(block() + 2 * cluster, raw);
  }

  [[nodiscard]] uint64_t l1() const { return field(header_offset::kL1Size + 4); }
  [[nodiscard]] uint64_t l2() const { return field(l1()) & kEntryOffsetMask; }
  [[nodiscard]] uint64_t table() const { return field(header_offset::kRefcountTable); }
  [[nodiscard]] uint64_t block() const { return field(table()) & kRefcountTableOffsetMask; }

 private:
  testing::SparseBytes bytes_;
};

enum class Repair : uint8_t { kNone, kLeaks, kAll };

struct RepairOutcome {
  Result<block::CheckResult> result = block::CheckResult();
  std::vector<std::string> lines;
  [[nodiscard]] bool clean() const {
    return result && result->corruptions == 0 && result->leaks == 0 && result->check_errors == 0;
  }
  [[nodiscard]] std::string text() const {
    std::string all = result ? "" : result.error().message() + "\n";
    for (const std::string& line : lines) {
      all += line + "\n";
    }
    return all;
  }
};

// Opens the image as the tool does, checks or repairs it, and closes it.
inline RepairOutcome repair(ImageWorld& image, Repair what) {
  RepairOutcome outcome;
  if (auto opened = image.open(what != Repair::kNone, true); !opened) {
    outcome.result = std::unexpected(opened.error());
    return outcome;
  }
  block::CheckOptions options{.fix_leaks = what != Repair::kNone,
                              .fix_errors = what == Repair::kAll};
  options.report = [&outcome](const std::string& line) { outcome.lines.push_back(line); };
  outcome.result = image.run(image.driver().check(std::move(options)));
  static_cast<void>(image.close());
  return outcome;
}

// What the guest can read, cluster by cluster, as far as the tests' disks go; empty where it can
// not.
using GuestContent = std::vector<std::vector<std::byte>>;

inline GuestContent guest_content(ImageWorld& image) {
  GuestContent content;
  if (!image.open(false, true)) {
    return content;
  }
  const uint64_t unit = image.driver().cluster_size();
  for (uint64_t at = 0; at < std::min(image.edge().length(), 100 * unit); at += unit) {
    std::vector<std::byte> bytes(std::min(unit, image.edge().length() - at));
    const auto read = image.run(image.edge().read(at, bytes.data(), bytes.size()));
    content.push_back(read ? std::move(bytes) : std::vector<std::byte>());
  }
  static_cast<void>(image.close());
  return content;
}

// The first cluster that could be read before and is another one now; SIZE_MAX: none.
inline std::size_t first_loss(const GuestContent& before, const GuestContent& now) {
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!before[i].empty() && (i >= now.size() || now[i] != before[i])) {
      return i;
    }
  }
  return SIZE_MAX;
}

}  // namespace cairn::qcow2
