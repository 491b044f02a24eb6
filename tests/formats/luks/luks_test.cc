// LUKS volumes and encrypted qcow2 images in files: what is written is read again, and nobody else
// reads it.
#include "formats/luks/luks.h"

#include <map>
#include <string>
#include <utility>

#include "block/create_options.h"
#include "formats/luks/create.h"
#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"
#include "io/task_group.h"
#include "protocols/file/file.h"
#include "schema/types_block_info.h"
#include "tests/support/graph_test.h"

namespace cairn::luks {
namespace {

using Options = std::map<std::string, std::string>;

class LuksTest : public testing::GraphTest {
 protected:
  LuksTest()
      : GraphTest({&file::kFileDriver, &raw::kRawDriver, &kLuksDriver, &qcow2::kQcow2Driver}) {}

  void SetUp() override {
    GraphTest::SetUp();
    graph_->set_secret_lookup([](const std::string& name) -> Result<std::string> {
      return name == "none" ? Result<std::string>(fail(ENOENT, "No secret with id 'none'"))
                            : "password of " + name;
    });
  }

  Result<void> create(const block::DriverInfo& driver, const std::string& name, Options wanted) {
    std::vector<block::CreateOptionInfo> table(driver.create_options.begin(),
                                               driver.create_options.end());
    table.push_back({.name = "preallocation"});
    block::CreateOptions options(table);
    for (const auto& [option, value] : wanted) {
      EXPECT_TRUE(options.set(option, value)) << option;
    }
    return run(driver.create(*graph_, path(name), options));
  }
  Result<void> create(const std::string& name, Options more = {}) {
    more.insert({{"size", "1048576"}, {"key-secret", "s"}, {"iter-time", "0"}});
    return create(kLuksDriver, name, std::move(more));
  }

  block::Edge* open_luks(const std::string& name, const std::string& secret = "s",
                         const std::string& header = {}, block::OpenFlags flags = {}) {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kLuks;
    schema::BlockdevOptionsLUKS luks;
    luks.file.value = schema::Box<schema::BlockdevOptions>(testing::file_options(path(name)));
    if (!header.empty()) {
      luks.header.emplace().value =
          schema::Box<schema::BlockdevOptions>(testing::file_options(path(header)));
    }
    if (!secret.empty()) {
      luks.key_secret = secret;
    }
    options.branch = std::move(luks);
    return open(options, kAll, flags);
  }

  block::Edge* open_qcow2(const std::string& name, bool aes) {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kQcow2;
    schema::BlockdevOptionsQcow2 qcow2;
    qcow2.file.value = schema::Box<schema::BlockdevOptions>(testing::file_options(path(name)));
    auto& encrypt = qcow2.encrypt.emplace();
    if (aes) {
      encrypt.format = schema::BlockdevQcow2EncryptionFormat::kAes;
      encrypt.branch.emplace<schema::QCryptoBlockOptionsQCow>().key_secret = "s";
    } else {
      encrypt.format = schema::BlockdevQcow2EncryptionFormat::kLuks;
      encrypt.branch.emplace<schema::QCryptoBlockOptionsLUKS>().key_secret = "s";
    }
    options.branch = std::move(qcow2);
    return open(options, kAll);
  }

  // Writes of all kinds of lengths at all kinds of places, beside a string that holds the same.
  void exercise(block::Edge& edge, std::string& model) {
    const std::pair<uint64_t, uint64_t> places[] = {
        {0, 512},      {100, 50},        {511, 2},         {512, 4096},  {70000, 1},
        {4095, 65538}, {300000, 600001}, {1000000, 48576}, {1, 1048574}, {131072, 131072}};
    char fill = 'a';
    for (const auto& [offset, length] : places) {
      const std::string data(length, fill++);
      const auto written = write(edge, offset, data);
      ASSERT_TRUE(written) << written.error().message();
      model.replace(offset, length, data);
      ASSERT_TRUE(read(edge, 0, model.size()) == model) << offset;
    }
    for (const auto& [offset, length] : places) {
      EXPECT_TRUE(read(edge, offset, length) == model.substr(offset, length)) << offset;
    }
  }
};

TEST_F(LuksTest, WhatIsWrittenIsReadAgainAndByNobodyElse) {
  ASSERT_TRUE(create("v"));
  block::Edge* edge = open_luks("v");
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_EQ(edge->length(), 1048576u);
  std::string model(1048576, '0');
  ASSERT_TRUE(write(*edge, 0, model));
  exercise(*edge, model);
  detach(edge);
  EXPECT_EQ(content("v").find(std::string(32, 'i')), std::string::npos);
  edge = open_luks("v");
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_TRUE(read(*edge, 0, model.size()) == model);
  ASSERT_TRUE(run(edge->write_zeroes(1000, 5000)));
  model.replace(1000, 5000, std::string(5000, '\0'));
  EXPECT_TRUE(read(*edge, 0, model.size()) == model);
}

TEST_F(LuksTest, EveryCipherReadsWhatItWrote) {
  const Options kinds[] = {{{"cipher-alg", "aes-128"}, {"hash-alg", "sha512"}},
                           {{"cipher-alg", "aes-192"}, {"cipher-mode", "cbc"}},
                           {{"cipher-mode", "cbc"}, {"ivgen-alg", "essiv"}},
                           {{"cipher-mode", "ecb"}, {"ivgen-alg", "plain"}},
                           {{"cipher-mode", "ctr"}},
                           {{"cipher-alg", "cast5-128"}, {"cipher-mode", "cbc"}},
                           {{"cipher-alg", "sm4"}, {"hash-alg", "sm3"}}};
  for (const Options& kind : kinds) {
    const auto created = create("v", kind);
    ASSERT_TRUE(created) << created.error().message();
    block::Edge* edge = open_luks("v");
    ASSERT_NE(edge, nullptr) << error_;
    ASSERT_TRUE(write(*edge, 700, "hello"));
    EXPECT_EQ(read(*edge, 700, 5), "hello");
    detach(edge);
  }
}

TEST_F(LuksTest, SecretsAreNeededAndMustBeRight) {
  EXPECT_EQ(create("v", {{"key-secret", "none"}}).error().message(), "No secret with id 'none'");
  EXPECT_EQ(content("v"), "");
  ASSERT_TRUE(create("v"));
  EXPECT_EQ(open_luks("v", ""), nullptr);
  EXPECT_EQ(error_, "Parameter 'key-secret' is required for cipher");
  EXPECT_EQ(open_luks("v", "none"), nullptr);
  EXPECT_EQ(error_, "No secret with id 'none'");
  EXPECT_EQ(open_luks("v", "other"), nullptr);
  EXPECT_EQ(error_, "Invalid password, cannot unlock any keyslot");
}

TEST_F(LuksTest, TellsOfItselfWithoutTheSecret) {
  ASSERT_TRUE(create("v"));
  block::Edge* edge = open_luks("v", "", "", {.read_only = true, .no_io = true});
  ASSERT_EQ(edge, nullptr);  // it was attached for writing
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kLuks;
  schema::BlockdevOptionsLUKS luks;
  luks.file.value = schema::Box<schema::BlockdevOptions>(testing::file_options(path("v")));
  options.branch = std::move(luks);
  edge = open(options, kRead, {.read_only = true, .no_io = true});
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_TRUE(edge->node().driver().encrypted());
  const auto info = run(edge->node().driver().specific_info());
  ASSERT_TRUE(info);
  const auto& told = std::get<schema::ImageInfoSpecificLUKSWrapper>((*info)->branch).data;
  EXPECT_EQ(told.cipher_alg, schema::QCryptoCipherAlgo::kAes256);
  EXPECT_EQ(told.payload_offset, 2068480);
  EXPECT_TRUE(told.slots[0].active);
  EXPECT_FALSE(told.slots[1].active);
  EXPECT_EQ(read(*edge, 0, 512).find("was opened without its key") != std::string::npos, true);
}

TEST_F(LuksTest, ADetachedHeaderLeavesTheDiskAlone) {
  ASSERT_TRUE(create("header", {{"detached-header", "on"}}));
  EXPECT_EQ(content("header").size(), 2068480u);
  make_file("disk", 1048576);
  block::Edge* edge = open_luks("disk", "s", "header");
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(edge->length(), 1048576u);
  ASSERT_TRUE(write(*edge, 0, std::string(4096, 'x')));
  EXPECT_EQ(read(*edge, 0, 4096), std::string(4096, 'x'));
  detach(edge);
  EXPECT_NE(content("disk").substr(0, 4096), std::string(4096, '\0'));
  EXPECT_NE(content("disk").substr(0, 4096), std::string(4096, 'x'));
}

TEST_F(LuksTest, GrowsAndShrinks) {
  ASSERT_TRUE(create("v"));
  block::Edge* edge = open_luks("v");
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(write(*edge, 0, std::string(1048576, 'x')));
  ASSERT_TRUE(run(edge->resize(2097152)));
  EXPECT_EQ(edge->length(), 2097152u);
  EXPECT_EQ(read(*edge, 1048000, 576), std::string(576, 'x'));
  ASSERT_TRUE(run(edge->resize(4096)));
  EXPECT_EQ(edge->length(), 4096u);
  EXPECT_EQ(content("v").size(), 2068480u + 4096u);
}

TEST_F(LuksTest, MakingAVolumeAnewLeavesNothingOfTheOldOne) {
  make_file("v", 4u << 20, 'o');
  ASSERT_TRUE(create("v"));
  EXPECT_EQ(content("v").size(), 2068480u + 1048576u);
  EXPECT_EQ(content("v").substr(0, 2068480).find("oooo"), std::string::npos);
}

io::Task<void> write_one(block::Edge* edge, uint64_t offset, char fill, bool* good) {
  const char byte = fill;
  const Result<void> written = co_await edge->write(offset, &byte, 1);
  *good = *good && written.has_value();
}

// Parts of one sector, all at once: each must find the others' bytes.
TEST_F(LuksTest, WritesToOneSectorDoNotLoseEachOther) {
  ASSERT_TRUE(create("v"));
  block::Edge* edge = open_luks("v");
  ASSERT_NE(edge, nullptr) << error_;
  bool good = true;
  io::TaskGroup group;
  for (uint64_t i = 0; i < 512; ++i) {
    group.spawn(write_one(edge, 1024 + i, static_cast<char>('a' + i % 26), &good));
  }
  run(group.join());
  EXPECT_TRUE(good);
  const std::string sector = read(*edge, 1024, 512);
  for (std::size_t i = 0; i < 512; ++i) {
    ASSERT_EQ(sector[i], static_cast<char>('a' + i % 26)) << i;
  }
}

TEST_F(LuksTest, Qcow2EncryptsItsClusters) {
  for (const bool aes : {false, true}) {
    const std::string name = aes ? "a.qcow2" : "l.qcow2";
    Options wanted = {{"size", "1048576"},
                      {"encrypt.format", aes ? "aes" : "luks"},
                      {"encrypt.key-secret", "s"},
                      {"cluster_size", "4096"}};
    if (!aes) {
      wanted.insert({"encrypt.iter-time", "0"});
    }
    const auto created = create(qcow2::kQcow2Driver, name, wanted);
    ASSERT_TRUE(created) << created.error().message();
    block::Edge* edge = open_qcow2(name, aes);
    ASSERT_NE(edge, nullptr) << error_;
    std::string model(1048576, '\0');
    EXPECT_TRUE(read(*edge, 0, model.size()) == model);
    exercise(*edge, model);
    ASSERT_TRUE(run(edge->write_zeroes(8192, 100000)));
    model.replace(8192, 100000, std::string(100000, '\0'));
    EXPECT_TRUE(read(*edge, 0, model.size()) == model);
    const auto checked = run(edge->node().driver().check({}));
    ASSERT_TRUE(checked);
    EXPECT_EQ(checked->corruptions, 0);
    EXPECT_EQ(checked->leaks, 0);
    detach(edge);
    EXPECT_EQ(content(name).find(std::string(32, 'i')), std::string::npos);
    edge = open_qcow2(name, aes);
    ASSERT_NE(edge, nullptr) << error_;
    EXPECT_TRUE(read(*edge, 0, model.size()) == model);
    detach(edge);
    EXPECT_EQ(open_qcow2(name, !aes), nullptr);
    EXPECT_EQ(error_, fmt::format("Header reported '{}' encryption format but options specify '{}'",
                                  aes ? "aes" : "luks", aes ? "luks" : "aes"));
  }
}

TEST_F(LuksTest, CreationRefusesWhatDoesNotGoTogether) {
  const auto refusal = [this](Options wanted) {
    wanted.insert({"size", "65536"});
    const auto created = create(qcow2::kQcow2Driver, "q", std::move(wanted));
    return created ? "" : created.error().message();
  };
  EXPECT_EQ(refusal({{"encrypt.key-secret", "s"}}), "Parameter 'encrypt.format' is missing");
  EXPECT_EQ(refusal({{"encrypt.format", "luks"}}),
            "Parameter 'encrypt.key-secret' is required for cipher");
  EXPECT_EQ(refusal({{"encrypt.format", "rot13"}, {"encrypt.key-secret", "s"}}),
            "Parameter 'format' does not accept value 'rot13'");
  EXPECT_EQ(refusal({{"encrypt.format", "aes"},
                     {"encrypt.key-secret", "s"},
                     {"encrypt.cipher-alg", "aes-128"}}),
            "Parameter 'encrypt.cipher-alg' is unexpected");
  EXPECT_EQ(refusal({{"encryption", "on"}, {"encrypt.format", "luks"}}),
            "'encrypt.format' and its alias 'encryption' can't be used at the same time");
  EXPECT_EQ(create("v", {{"cipher-mode", "xyz"}}).error().message(),
            "Parameter 'cipher-mode' does not accept value 'xyz'");
  EXPECT_EQ(create("v", {{"cipher-alg", "des"}}).error().message(),
            "Algorithm 'des' not supported");
  EXPECT_EQ(create("v", {{"preallocation", "bogus"}}).error().message(),
            "invalid parameter value: bogus");
}

}  // namespace
}  // namespace cairn::luks
