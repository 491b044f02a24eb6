// DataFileTest: qcow2 images with an external data file, "data".
#pragma once

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "block/create_options.h"
#include "formats/qcow2/create.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {

inline constexpr uint64_t kUnit = 4096;
inline constexpr uint64_t kUnits = 64;
inline constexpr uint64_t kDiskSize = kUnits * kUnit;

class DataFileTest : public Qcow2Test {
 protected:
  static testing::Qcow2Shape shape(bool raw = false) {
    return {.cluster_bits = 12, .size = kDiskSize, .data_file = "data", .data_file_raw = raw};
  }
  testing::SimulatedFile& data_file() { return *image_.world().find("data"); }
  const testing::SparseBytes& data() { return data_file().disk.visible(); }
  // The number of the write that a range of the data file is from.
  bool data_holds(testing::WriteNumber number, uint64_t offset, uint64_t length) {
    const std::vector<std::byte> bytes = data().read(offset, length);
    return testing::matching_prefix(number, offset, bytes) == length;
  }
  uint64_t field(uint64_t offset) {
    return load_be<uint64_t>(image_.file().disk.visible().read(offset, 8).data());
  }
  uint64_t l2_offset() { return field(field(header_offset::kL1Size + 4)) & kEntryOffsetMask; }
  uint64_t entry_of(uint64_t cluster) { return field(l2_offset() + cluster * kL2EntryBytes); }
  void set_entry(uint64_t cluster, uint64_t entry) {
    std::byte raw[8];
    store_be(raw, entry);
    testing::SparseBytes bytes = image_.file().disk.visible();
    bytes.write(l2_offset() + cluster * kL2EntryBytes, raw);
    image_.world().add("image", std::move(bytes));
  }
  // From now on the image is opened with this data file.
  void give_data_file(std::string filename) {
    schema::BlockdevOptions file;
    file.driver = schema::BlockdevDriver::kFile;
    schema::BlockdevOptionsFile branch;
    branch.filename = std::move(filename);
    file.branch = branch;
    image_.options().data_file.emplace();
    image_.options().data_file->value = schema::Box<schema::BlockdevOptions>(file);
  }
  std::string refusal(bool writable = true) {
    const auto opened = image_.open(writable);
    return opened ? "" : opened.error().message();
  }
  // With cluster 2 at another place, read and written to; the image is marked when it can be.
  void expect_refused(uint64_t entry) {
    testing::Qcow2Builder builder(shape());
    start(builder);
    ASSERT_TRUE(image_.write(1, 0, 8 * kUnit));
    close_clean();
    set_entry(2, entry);
    const testing::SparseBytes before = data();
    open(false);
    EXPECT_FALSE(image_.holds(1, 2 * kUnit, 512));
    EXPECT_TRUE(image_.holds(1, 3 * kUnit, 512));
    ASSERT_TRUE(image_.close());
    open();
    const auto written = image_.write(2, 2 * kUnit + 512, 512);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), EIO);
    EXPECT_TRUE(image_.driver().image().header().has(kIncompatibleCorrupt));
    ASSERT_TRUE(image_.close());
    EXPECT_EQ(data().read(0, kDiskSize), before.read(0, kDiskSize));
  }
  Result<void> create(const std::vector<std::pair<std::string, std::string>>& values) {
    block::CreateOptions options(create_option_table());
    for (const auto& [name, value] : values) {
      if (auto set = options.set(name, value); !set) {
        return set;
      }
    }
    return image_.run(create_image(image_.graph(), "image", options));
  }
  Result<void> amend(const std::string& name, const std::string& value) {
    block::CreateOptions options(amend_option_table());
    if (auto set = options.set(name, value); !set) {
      return set;
    }
    return image_.run(image_.edge().amend(std::move(options)));
  }
};

}  // namespace cairn::qcow2
