// New images: their layout, and which wishes are refused.
#include "formats/qcow2/create.h"

#include "base/bytes.h"
#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"
#include "protocols/file/file.h"
#include "tests/support/graph_test.h"

namespace cairn::qcow2 {
namespace {

class Qcow2CreateTest : public testing::GraphTest {
 protected:
  Qcow2CreateTest() : GraphTest({&file::kFileDriver, &raw::kRawDriver, &kQcow2Driver}) {}

  // "name=value" pairs.
  Result<void> create(const std::vector<std::pair<const char*, std::string>>& values) {
    block::CreateOptions options(create_option_table());
    for (const auto& [name, value] : values) {
      if (auto set = options.set(name, value); !set) {
        return set;
      }
    }
    return run(create_image(*graph_, path("a"), options));
  }
  std::string refusal(const std::vector<std::pair<const char*, std::string>>& values) {
    const auto result = create(values);
    EXPECT_FALSE(std::filesystem::exists(path("a")));
    return result ? "" : result.error().message();
  }
  static std::string message(const Result<void>& result) {
    return result ? "" : result.error().message();
  }
  template <typename T>
  static T number(const std::string& bytes, std::size_t offset) {
    return load_be<T>(bytes.data() + offset);
  }
};

TEST_F(Qcow2CreateTest, TheDefaultLayoutIsThatOfTheField) {
  ASSERT_EQ(message(create({{"size", "1M"}})), "");
  const std::string bytes = content("a");
  EXPECT_EQ(bytes.size(), 196616u);
  EXPECT_EQ(number<uint32_t>(bytes, 4), 3u);
  EXPECT_EQ(number<uint32_t>(bytes, 20), 16u);       // cluster_bits
  EXPECT_EQ(number<uint64_t>(bytes, 24), 1u << 20);  // size
  EXPECT_EQ(number<uint32_t>(bytes, 36), 1u);        // l1_size
  EXPECT_EQ(number<uint64_t>(bytes, 40), 0x30000u);  // l1_table_offset
  EXPECT_EQ(number<uint64_t>(bytes, 48), 0x10000u);  // refcount_table_offset
  EXPECT_EQ(number<uint32_t>(bytes, 56), 1u);
  EXPECT_EQ(number<uint32_t>(bytes, 100), 112u);  // header_length
  EXPECT_EQ(number<uint64_t>(bytes, 0x10000), 0x20000u);
  EXPECT_EQ(number<uint64_t>(bytes, 0x20000), 0x0001000100010001u);
  EXPECT_EQ(number<uint64_t>(bytes, 0x20008), 0u);
}

TEST_F(Qcow2CreateTest, EveryClusterSizeAndRefcountWidthIsConsistentAndTakesData) {
  for (uint32_t cluster = 512; cluster <= 2u << 20; cluster *= 2) {
    for (const char* bits : {"1", "16", "64"}) {
      SCOPED_TRACE(std::to_string(cluster) + " " + bits);
      ASSERT_EQ(message(create({{"size", "100M"},
                                {"cluster_size", std::to_string(cluster)},
                                {"refcount_bits", bits}})),
                "");
      auto node = run(graph_->open_filename(path("a"), "qcow2"));
      ASSERT_TRUE(node) << node.error().message();
      auto edge = graph_->attach(*node, "test", kReadWrite);
      ASSERT_TRUE(edge) << edge.error().message();
      node->reset();
      EXPECT_TRUE(write(**edge, (50 << 20) - 3, "hello"));
      EXPECT_EQ(read(**edge, (50 << 20) - 4, 7), std::string("\0hello\0", 7));
      ASSERT_TRUE(run(graph_->detach(std::move(*edge))));
    }
  }
}

TEST_F(Qcow2CreateTest, HugeDisksNeedOnlyTheirL1Table) {
  ASSERT_EQ(message(create({{"size", "64T"}, {"cluster_size", "2M"}})), "");
  EXPECT_LT(std::filesystem::file_size(path("a")), 16u << 20);
  ASSERT_EQ(message(create({{"size", "128G"}, {"cluster_size", "512"}})), "");
  auto node = run(graph_->open_filename(path("a"), "qcow2"));
  ASSERT_TRUE(node) << node.error().message();
  EXPECT_EQ((*node)->length(), uint64_t{128} << 30);
  EXPECT_TRUE(run(graph_->release(std::move(*node))));
}

TEST_F(Qcow2CreateTest, SmallClustersGiveUpTheFeatureNamesForTheBackingFile) {
  ASSERT_EQ(message(create({{"size", "1M"},
                            {"cluster_size", "512"},
                            {"backing_file", "b.raw"},
                            {"backing_fmt", "raw"}})),
            "");
  const std::string bytes = content("a");
  EXPECT_EQ(number<uint64_t>(bytes, 8), 0x88u);
  EXPECT_EQ(bytes.substr(0x88, 5), "b.raw");
}

TEST_F(Qcow2CreateTest, PreallocationMapsTheWholeDisk) {
  for (const char* mode : {"metadata", "falloc", "full"}) {
    SCOPED_TRACE(mode);
    ASSERT_EQ(message(create({{"size", "2M"}, {"preallocation", mode}})), "");
    auto node = run(graph_->open_filename(path("a"), "qcow2"));
    ASSERT_TRUE(node) << node.error().message();
    auto edge = graph_->attach(*node, "test", kRead);
    ASSERT_TRUE(edge) << edge.error().message();
    node->reset();
    const auto status = run((*edge)->status(0, 2 << 20));
    ASSERT_TRUE(status);
    EXPECT_TRUE(status->allocated);
    EXPECT_EQ(read(**edge, 0, 2 << 20), std::string(2 << 20, '\0'));
    ASSERT_TRUE(run(graph_->detach(std::move(*edge))));
  }
}

TEST_F(Qcow2CreateTest, RefusesWhatDoesNotGoTogether) {
  EXPECT_EQ(refusal({{"size", "1M"}, {"cluster_size", "3k"}}),
            "Cluster size must be a power of two between 512 and 2048k");
  EXPECT_EQ(refusal({{"size", "1M"}, {"cluster_size", "4M"}}),
            "Cluster size must be a power of two between 512 and 2048k");
  EXPECT_EQ(refusal({{"size", "1M"}, {"refcount_bits", "3"}}),
            "Refcount width must be a power of two and may not exceed 64 bits");
  EXPECT_EQ(refusal({{"size", "1M"}, {"compat", "1.0"}}),
            "Parameter 'version' does not accept value '1.0'");
  EXPECT_EQ(refusal({{"size", "1M"}, {"compat", "v2"}, {"lazy_refcounts", "on"}}),
            "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 "
            "or greater)");
  EXPECT_EQ(refusal({{"size", "1M"}, {"compat", "v2"}, {"refcount_bits", "1"}}),
            "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
            "version=v3 or greater)");
  EXPECT_EQ(refusal({{"size", "1M"}, {"backing_fmt", "raw"}}),
            "Backing format cannot be used without backing file");
  EXPECT_EQ(refusal({{"size", "3P"}}),
            "The image size is too large for file format 'qcow2' (try using a larger cluster "
            "size)");
  EXPECT_EQ(refusal({{"size", "1M"}, {"preallocation", "some"}}),
            "Parameter 'preallocation' does not accept value 'some'");
}

TEST_F(Qcow2CreateTest, RefusesSizesThatNoNodeHas) {
  EXPECT_EQ(refusal({{"size", "9223372036854774784"}}),
            "Could not resize image: offset(9223372036854774784) exceeds "
            "maximum(9223372035781033984)");
  EXPECT_EQ(refusal({{"size", "9223372036854775807"}}),
            "Could not resize image: Image size cannot be negative");
}

TEST_F(Qcow2CreateTest, ABackingFormatIsOneThatTheFieldHas) {
  const std::string backing = path("b");
  make_file("b", 4096, 'x');
  EXPECT_EQ(refusal({{"size", "1M"}, {"backing_file", backing}, {"backing_fmt", "nosuch"}}),
            "Parameter 'backing-fmt' does not accept value 'nosuch'");
  const auto created = create({{"size", "1M"}, {"backing_file", backing}, {"backing_fmt", "vdi"}});
  EXPECT_TRUE(created) << created.error().message();
}

TEST_F(Qcow2CreateTest, MeasuringLooksAtLessInAnotherOrder) {
  const auto wrong = [](const std::vector<std::pair<const char*, std::string>>& values) {
    block::CreateOptions options(create_option_table());
    for (const auto& [name, value] : values) {
      EXPECT_TRUE(options.set(name, value));
    }
    const auto parsed = parse_measure_options(options);
    return parsed ? "" : parsed.error().message();
  };
  EXPECT_EQ(wrong({{"compression_type", "x"}, {"backing_fmt", "x"}}), "");
  EXPECT_EQ(wrong({{"compat", "x"}, {"cluster_size", "3"}}),
            "Cluster size must be a power of two between 512 and 2048k");
  EXPECT_EQ(wrong({{"compat", "x"}, {"refcount_bits", "3"}}), "Invalid compatibility level: 'x'");
  EXPECT_EQ(wrong({{"preallocation", "x"}}), "invalid parameter value: x");
  EXPECT_EQ(wrong({{"compat", "v2"}, {"refcount_bits", "8"}}),
            "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
            "compat=1.1 or greater)");
}

TEST_F(Qcow2CreateTest, SaysWhatIsNotBuilt) {
  EXPECT_NE(refusal({{"size", "1M"}, {"encrypt.format", "luks"}}), "");
}

}  // namespace
}  // namespace cairn::qcow2
