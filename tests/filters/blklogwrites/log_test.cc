// The log of writes, byte for byte, and what may be gone on with.
#include "filters/blklogwrites/log.h"

#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "filters/blklogwrites/blklogwrites.h"
#include "tests/block/block_test.h"

namespace cairn::filters::blklogwrites {
namespace {

class WriteLogTest : public block::BlockTest {
 protected:
  static constexpr uint64_t kSize = 64 << 10;

  WriteLogTest() {
    drivers_.add(kBlklogwritesDriver);
    world_.add("disk", testing::SparseBytes(kSize));
    world_.add("log", testing::SparseBytes(0));
    options_.file.value = schema::Box<schema::BlockdevOptions>(file_options("disk"));
    options_.log.value = schema::Box<schema::BlockdevOptions>(file_options("log"));
  }
  schema::BlockdevOptions node() const {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kBlklogwrites;
    options.branch = options_;
    return options;
  }
  block::Edge& attach_log() { return attach(node(), kWriter, {.discard_unmap = true}); }
  void close() {
    EXPECT_TRUE(run(graph_.detach(std::move(edges_.back()))));
    edges_.pop_back();
  }
  uint64_t number(uint64_t offset, std::size_t bytes = 8) {
    std::array<std::byte, 8> data{};
    file("log").disk.read(offset, std::span(data).first(bytes));
    uint64_t value = 0;
    std::memcpy(&value, data.data(), sizeof value);  // little endian, as this machine is
    return value;
  }
  struct Entry {
    uint64_t sector;
    uint64_t sectors;
    uint64_t flags;
    bool operator==(const Entry&) const = default;
  };
  std::vector<Entry> entries() {
    EXPECT_EQ(number(0), WriteLog::kMagic);
    EXPECT_EQ(number(8), 1u);
    const uint64_t sector = number(24, 4);
    std::vector<Entry> found;
    uint64_t at = sector;
    for (uint64_t i = 0; i < number(16); ++i) {
      found.push_back({number(at), number(at + 8), number(at + 16)});
      EXPECT_EQ(number(at + 24), 0u);
      at += sector *
            (1 + ((found.back().flags & WriteLog::kDiscard) != 0 ? 0 : found.back().sectors));
    }
    return found;
  }

  schema::BlockdevOptionsBlklogwrites options_;
};

TEST_F(WriteLogTest, HasAnEntryForEveryChangeInItsOrder) {
  block::Edge& edge = attach_log();
  EXPECT_TRUE(write(edge, 1, 512, 1024));
  EXPECT_TRUE(write(edge, 2, 4096, 100));  // a part of a sector is a sector
  EXPECT_TRUE(run(edge.write_zeroes(8192, 1024)));
  EXPECT_TRUE(run(edge.flush()));
  EXPECT_TRUE(run(edge.discard(16384, 2048)));
  EXPECT_TRUE(write(edge, 3, 0, 512, {.fua = true}));
  EXPECT_TRUE(holds(edge, 2, 4096, 100));
  close();
  using F = WriteLog::Flag;
  const std::vector<Entry> expected = {
      {1, 2, 0},       {8, 1, 0},        {16, 2, 0}, {0, 0, F::kFlush}, {32, 4, F::kDiscard},
      {0, 1, F::kFua}, {0, 0, F::kFlush}};
  EXPECT_EQ(entries(), expected);
  std::vector<std::byte> data(1024);
  file("log").disk.read(2 * 512, data);
  EXPECT_EQ(data, pattern(1, 512, 1024));
}

TEST_F(WriteLogTest, HasSectorsOfAnySize) {
  options_.log_sector_size = 4096;
  block::Edge& edge = attach_log();
  EXPECT_TRUE(write(edge, 1, 5000, 100));
  EXPECT_TRUE(holds(edge, 1, 5000, 100));
  close();
  EXPECT_EQ(entries().front(), (Entry{1, 1, 0}));
}

TEST_F(WriteLogTest, GoesOnBehindWhatIsThere) {
  EXPECT_TRUE(write(attach_log(), 1, 0, 512));
  close();
  const std::size_t before = entries().size();
  options_.log_append = true;
  EXPECT_TRUE(write(attach_log(), 2, 1024, 512));
  close();
  EXPECT_EQ(entries()[before], (Entry{2, 1, 0}));
}

TEST_F(WriteLogTest, RefusesWhatIsNoLog) {
  const auto refusal = [this] {
    auto opened = run(graph_.open(node(), {}));
    EXPECT_FALSE(opened);
    return opened ? "" : opened.error().message();
  };
  options_.log_sector_size = 1000;
  EXPECT_EQ(refusal(), "Invalid log sector size 1000");
  options_.log_append = true;
  EXPECT_EQ(refusal(), "log-append and log-sector-size are mutually exclusive");
  options_.log_sector_size.reset();
  world_.add("other", testing::SparseBytes(4096));
  options_.log.value = schema::Box<schema::BlockdevOptions>(file_options("other"));
  EXPECT_EQ(refusal(), "Invalid log superblock magic");
}

}  // namespace
}  // namespace cairn::filters::blklogwrites
