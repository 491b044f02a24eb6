// What a check finds in images that were damaged by hand.
#include <cerrno>

#include <gmock/gmock.h>

#include "base/bytes.h"
#include "formats/qcow2/create.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/reference_counts.h"
#include "protocols/file/file.h"
#include "tests/support/graph_test.h"

namespace cairn::qcow2 {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// An image of 4 MiB whose first 256 KiB are written: the L1 table is in cluster 3, the L2 table in
// cluster 4, the data in clusters 5 to 8.
class Qcow2CheckTest : public testing::GraphTest {
 protected:
  Qcow2CheckTest() : GraphTest({&file::kFileDriver, &kQcow2Driver}) {}

  static constexpr uint64_t kL1 = 0x30000;
  static constexpr uint64_t kL2 = 0x40000;
  static constexpr uint64_t kRefcountTable = 0x10000;
  static constexpr uint64_t kRefcountBlock = 0x20000;

  void SetUp() override {
    GraphTest::SetUp();
    block::CreateOptions options(create_option_table());
    ASSERT_TRUE(options.set("size", "4M"));
    ASSERT_TRUE(run(create_image(*graph_, path("a"), options)));
    auto node = run(graph_->open_filename(path("a"), "qcow2"));
    ASSERT_TRUE(node) << node.error().message();
    auto edge = graph_->attach(*node, "test", kReadWrite);
    ASSERT_TRUE(edge) << edge.error().message();
    node->reset();
    ASSERT_TRUE(write(**edge, 0, std::string(262144, 'x')));
    ASSERT_TRUE(run(graph_->detach(std::move(*edge))));
  }

  void poke(uint64_t offset, uint64_t value) {
    std::fstream file(path("a"), std::ios::in | std::ios::out | std::ios::binary);
    std::array<char, 8> bytes{};
    store_be<uint64_t>(bytes.data(), value);
    file.seekp(static_cast<std::streamoff>(offset));
    file.write(bytes.data(), bytes.size());
  }
  void poke_refcount(uint64_t cluster, uint16_t value) {
    std::fstream file(path("a"), std::ios::in | std::ios::out | std::ios::binary);
    std::array<char, 2> bytes{};
    store_be<uint16_t>(bytes.data(), value);
    file.seekp(static_cast<std::streamoff>(kRefcountBlock + 2 * cluster));
    file.write(bytes.data(), bytes.size());
  }

  // The lines of a check; the numbers are left in result_.
  std::vector<std::string> check(bool repair = false) {
    lines_.clear();
    const block::OpenFlags flags{.read_only = true, .check_only = true};
    auto node = run(graph_->open_filename(path("a"), "qcow2", flags));
    if (!node) {
      return {node.error().message()};
    }
    block::CheckOptions options;
    options.fix_errors = repair;
    options.report = [this](const std::string& line) { lines_.push_back(line); };
    auto result = run((*node)->driver().check(std::move(options)));
    EXPECT_TRUE(run(graph_->release(std::move(*node))));
    if (!result) {
      error_ = result.error().message();
      return {error_};
    }
    result_ = *result;
    return lines_;
  }

  std::vector<std::string> lines_;
  block::CheckResult result_;
};

TEST_F(Qcow2CheckTest, ASoundImageHasNothingToReport) {
  EXPECT_THAT(check(), IsEmpty());
  EXPECT_EQ(result_.corruptions + result_.leaks + result_.check_errors, 0);
  EXPECT_EQ(result_.image_end_offset, 9 * 65536);
  EXPECT_EQ(result_.fragmentation->total_clusters, 64);
  EXPECT_EQ(result_.fragmentation->allocated_clusters, 4);
  EXPECT_EQ(result_.fragmentation->fragmented_clusters, 0);
}

TEST_F(Qcow2CheckTest, TellsLeaksFromCorruptions) {
  poke_refcount(5, 0);
  poke_refcount(20, 1);  // beyond the end of the file: not looked at
  poke_refcount(6, 2);
  EXPECT_THAT(check(), ElementsAre("ERROR cluster 5 refcount=0 reference=1",
                                   "Leaked cluster 6 refcount=2 reference=1",
                                   "ERROR OFLAG_COPIED data cluster: l2_entry=8000000000050000 "
                                   "refcount=0",
                                   "ERROR OFLAG_COPIED data cluster: l2_entry=8000000000060000 "
                                   "refcount=2"));
  EXPECT_EQ(result_.corruptions, 3);
  EXPECT_EQ(result_.leaks, 1);
}

TEST_F(Qcow2CheckTest, EntriesThatLeadNowhereAreReportedAndNotFollowed) {
  poke(kL2, 0x80ffffffffff0000);
  EXPECT_THAT(check(), ElementsAre("ERROR: counting reference for region exceeding the end of the "
                                   "file by one cluster or more: offset 0xffffffffff0000 size "
                                   "0x10000",
                                   "Leaked cluster 5 refcount=1 reference=0",
                                   "ERROR OFLAG_COPIED data cluster: l2_entry=80ffffffffff0000 "
                                   "refcount=0"));
  poke(kL1, 0x8000000010000000);
  EXPECT_THAT(check().front(), ::testing::HasSubstr("offset 0x10000000 size 0x10000"));
  EXPECT_EQ(result_.leaks, 5);
}

TEST_F(Qcow2CheckTest, ATableThatIsNotAlignedIsNotRead) {
  poke(kL1, 0x8000000000040200);
  EXPECT_EQ(check().front(),
            "ERROR l2_offset=40200: Table is not cluster aligned; L1 entry corrupted");
}

TEST_F(Qcow2CheckTest, FlagsAndReservedBitsAreChecked) {
  poke(kL1, 0x0000000000040000);
  EXPECT_THAT(check(), ElementsAre("ERROR OFLAG_COPIED L2 cluster: l1_index=0 l1_entry=40000 "
                                   "refcount=1"));
  poke(kL1, 0x8000000000040001);
  poke(kL2, 0x8400000000050000);
  poke(kL2 + 8, 0xc000000000060000);
  EXPECT_THAT(check(), ElementsAre("ERROR found L1 entry with reserved bits set: 8000000000040001",
                                   "ERROR found l2 entry with reserved bits set: 8400000000050000",
                                   "ERROR: coffset=0x60000: copied flag must never be set for "
                                   "compressed clusters"));
}

TEST_F(Qcow2CheckTest, ARefcountBlockMustBeOneAndAligned) {
  poke(kRefcountTable + 8, kRefcountBlock);
  EXPECT_THAT(check(), ElementsAre("ERROR refcount block 1 refcount=2",
                                   "ERROR cluster 2 refcount=1 reference=2"));
  poke(kRefcountTable + 8, 0);
  poke(kRefcountTable, 0x20200);
  EXPECT_EQ(check().front(),
            "ERROR refcount block 0 is not cluster aligned; refcount table entry corrupted");
  EXPECT_EQ(result_.check_errors, 9);
}

TEST_F(Qcow2CheckTest, AnImageThatIsOpenForReadingIsNotRepaired) {
  poke_refcount(6, 2);
  EXPECT_THAT(check(true), ElementsAre("A repair needs an image that is open for writing"));
}

TEST(ReferenceCounts, CountsFarBeyondOneByte) {
  ReferenceCounts counts;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(counts.add(5));
  }
  ASSERT_TRUE(counts.add(6, ReferenceCounts::Flag::kCopied));
  EXPECT_EQ(counts.get(5), 1000u);
  EXPECT_EQ(counts.get(6), 1u);
  EXPECT_TRUE(counts.has(6, ReferenceCounts::Flag::kCopied));
  EXPECT_FALSE(counts.has(6, ReferenceCounts::Flag::kUncopied));
  EXPECT_FALSE(counts.has(5, ReferenceCounts::Flag::kCopied));
}

TEST(ReferenceCounts, FindsTheNextPieceAndKeepsItsBound) {
  ReferenceCounts counts;
  ASSERT_TRUE(counts.add(uint64_t{1} << 40));
  EXPECT_EQ(counts.next(0), uint64_t{1} << 40);
  EXPECT_EQ(counts.next((uint64_t{1} << 40) + 5), (uint64_t{1} << 40) + 5);
  EXPECT_EQ(counts.next(uint64_t{1} << 41), UINT64_MAX);
}

}  // namespace
}  // namespace cairn::qcow2
