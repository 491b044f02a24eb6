// External data files: how images name them, entries that make no sense, and what such images can
// not have.
#include "tests/formats/qcow2/data_file_test.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;
using testing::Qcow2Shape;
using testing::SparseBytes;

TEST_F(DataFileTest, EntriesThatLeadElsewhereAreCorruption) {
  for (const uint64_t entry : {kEntryCopied | 5 * kUnit, 5 * kUnit, kEntryCopied,
                               kEntryCopied | 0x7000000, kEntryCopied | 5 * kUnit | kEntryZero,
                               kEntryCopied | (2 * kUnit + 512), kEntryCompressed | 2 * kUnit}) {
    expect_refused(entry);
    ASSERT_FALSE(HasFailure()) << c_hex(entry);
  }
}

TEST_F(DataFileTest, TheCopiedFlagOfAPlainZeroClusterMeansNothing) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 0, 4 * kUnit));
  close_clean();
  set_entry(2, kEntryCopied | kEntryZero);
  open();
  EXPECT_TRUE(image_.holds(testing::kZeroes, 2 * kUnit, kUnit));
  ASSERT_TRUE(image_.write(2, 2 * kUnit, 512));
  EXPECT_TRUE(image_.holds(2, 2 * kUnit, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 2 * kUnit + 512, kUnit - 512));
  close_clean();
}

TEST_F(DataFileTest, ACheckTellsOfCompressedClustersAndMissingFlags) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 0, 4 * kUnit));
  close_clean();
  set_entry(1, kEntryCompressed | 512);
  set_entry(2, 2 * kUnit);
  ASSERT_TRUE(image_.open(true, true));
  std::vector<std::string> lines;
  block::CheckOptions options;
  options.report = [&lines](const std::string& line) { lines.push_back(line); };
  const auto checked = image_.run(image_.driver().check(std::move(options)));
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->corruptions, 2);
  EXPECT_EQ(checked->leaks, 0);
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "ERROR compressed cluster 1 with data file, entry=0x4000000000000200",
                       "ERROR OFLAG_COPIED data cluster: l2_entry=2000 refcount=1"}));
  block::CheckOptions repair{.fix_leaks = true, .fix_errors = true};
  const auto repaired = image_.run(image_.driver().check(std::move(repair)));
  ASSERT_TRUE(repaired);
  EXPECT_EQ(repaired->corruptions_fixed, 1);
  ASSERT_TRUE(image_.close());
  EXPECT_EQ(entry_of(2), kEntryCopied | 2 * kUnit);
}

TEST_F(DataFileTest, HasNoSnapshotsAndNoCompressedClusters) {
  Qcow2Builder builder(shape());
  start(builder);
  block::Snapshot snapshot;
  snapshot.name = "s";
  const auto created = image_.run(image_.edge().create_snapshot(std::move(snapshot)));
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code(), ENOTSUP);
  const auto written = image_.write(1, 0, kUnit, {.compressed = true});
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ENOTSUP);
  close_clean();
}

TEST_F(DataFileTest, IsOpenedByNameOrByOption) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 0, kUnit));
  close_clean();
  SparseBytes content = data();
  image_.world().remove("data");
  EXPECT_EQ(refusal(), "Could not open 'data': No such file or directory");
  image_.world().add("elsewhere", std::move(content));
  give_data_file("elsewhere");
  open();
  EXPECT_TRUE(image_.holds(1, 0, kUnit));
  ASSERT_TRUE(image_.close());
}

TEST_F(DataFileTest, AnOptionWithoutTheFeatureIsRefused) {
  start({.cluster_bits = 12, .size = kDiskSize});
  close_clean();
  give_data_file("nowhere");
  EXPECT_EQ(refusal(), "Could not open 'nowhere': No such file or directory");
  image_.world().add("somewhere", SparseBytes(kDiskSize));
  give_data_file("somewhere");
  EXPECT_EQ(refusal(), "'data-file' can only be set for images with an external data file");
}

TEST_F(DataFileTest, AnImageThatNamesNoneNeedsTheOption) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(amend("data_file", ""));
  ASSERT_TRUE(image_.close());
  EXPECT_EQ(refusal(), "'data-file' is required for this image");
}

TEST_F(DataFileTest, IsNotFollowedWhereThatIsForbidden) {
  Qcow2Builder builder(shape());
  start(builder);
  close_clean();
  image_.graph().set_open_policy({.follow_names = false});
  EXPECT_NE(refusal().find("names a data file ('data'), and opening it is not allowed"),
            std::string::npos);
}

// What looks like a description of a node is the name of a file.
TEST_F(DataFileTest, ItsNameIsNeverMoreThanAPath) {
  Qcow2Shape named = shape();
  named.data_file = R"(json:{"driver":"null-co"})";
  Qcow2Builder builder(named);
  image_.world().add("image", builder.finish());
  EXPECT_EQ(refusal(),
            R"(Could not open './json:{"driver":"null-co"}': No such file or directory)");
}

TEST_F(DataFileTest, AmendChangesItsNameAndEndsItsBeingRaw) {
  Qcow2Builder builder(shape(true));
  start(builder);
  ASSERT_TRUE(amend("data_file", "other"));
  ASSERT_TRUE(amend("data_file_raw", "off"));
  const auto raw = amend("data_file_raw", "on");
  ASSERT_FALSE(raw);
  EXPECT_EQ(raw.error().message(), "data-file-raw cannot be set on existing images");
  const auto version = amend("compat", "0.10");
  ASSERT_FALSE(version);
  EXPECT_EQ(version.error().message(), "Cannot downgrade an image with a data file");
  close_clean();
  EXPECT_EQ(refusal(), "Could not open 'other': No such file or directory");
  EXPECT_EQ(field(header_offset::kAutoclear) & kAutoclearDataFileRaw, 0u);
}

TEST_F(DataFileTest, CreationMakesBothFiles) {
  ASSERT_TRUE(create({{"size", "256k"}, {"cluster_size", "4096"}, {"data_file", "data"}}));
  EXPECT_EQ(data().size(), kDiskSize);
  open();
  ASSERT_TRUE(image_.write(1, kUnit, kUnit));
  close_clean();
  EXPECT_TRUE(data_holds(1, kUnit, kUnit));
}

TEST_F(DataFileTest, CreationMapsARawFileFromTheStart) {
  ASSERT_TRUE(create({{"size", "256k"},
                      {"cluster_size", "4096"},
                      {"data_file", "data"},
                      {"data_file_raw", "on"}}));
  EXPECT_EQ(data().size(), kDiskSize);
  EXPECT_EQ(entry_of(0), kEntryCopied);
  EXPECT_EQ(entry_of(kUnits - 1), kEntryCopied | (kDiskSize - kUnit));
  EXPECT_EQ(field(header_offset::kAutoclear), kAutoclearDataFileRaw);
  open();
  close_clean();
}

TEST_F(DataFileTest, CreationTellsThatANameHasNoRoom) {
  const auto created =
      create({{"size", "1M"}, {"cluster_size", "512"}, {"data_file", std::string(600, 'd')}});
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code(), ENOSPC);
  EXPECT_TRUE(created.error().message().starts_with(
      "The header has no room for the name of the data file 'ddd"));
}

}  // namespace
}  // namespace cairn::qcow2
