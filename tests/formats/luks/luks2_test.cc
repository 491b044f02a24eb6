// LUKS2: both copies of the header, what its JSON may say, key slots, and the disk.
#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <string>

#include "base/bytes.h"
#include "block/create_options.h"
#include "formats/encryption/luks2_create.h"
#include "formats/encryption/luks2_header.h"
#include "formats/encryption/luks2_metadata.h"
#include "formats/luks/create.h"
#include "formats/luks/luks.h"
#include "protocols/file/file.h"
#include "schema/json_stream.h"
#include "schema/types_block_info.h"
#include "tests/support/graph_test.h"

namespace cairn::luks {
namespace {

using encryption::Luks2Header;
using encryption::Luks2Metadata;
using Settings = std::map<std::string, std::string>;

class Luks2Test : public testing::GraphTest {
 protected:
  Luks2Test() : GraphTest({&file::kFileDriver, &kLuksDriver}) {}

  void SetUp() override {
    GraphTest::SetUp();
    graph_->set_secret_lookup(
        [](const std::string& name) -> Result<std::string> { return "password of " + name; });
  }

  Result<void> create(Settings more = {}) {
    more.insert({{"size", "1048576"},
                 {"key-secret", "s"},
                 {"iter-time", "0"},
                 {"version", "luks2"},
                 {"pbkdf", "pbkdf2"}});
    block::CreateOptions options(create_option_table());
    for (const auto& [name, value] : more) {
      EXPECT_TRUE(options.set(name, value)) << name;
    }
    return run(create_volume(*graph_, path("v"), options));
  }
  block::Edge* open_volume(const std::string& secret = "s") {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kLuks;
    auto& luks = options.branch.emplace<schema::BlockdevOptionsLUKS>();
    luks.file.value = schema::Box<schema::BlockdevOptions>(testing::file_options(path("v")));
    luks.key_secret = secret;
    return open(options, kAll);
  }
  std::string amend(block::Edge& edge, const Settings& wanted) {
    block::CreateOptions options(amend_option_table());
    for (const auto& [name, value] : wanted) {
      EXPECT_TRUE(options.set(name, value)) << name;
    }
    const Result<void> amended = run(edge.amend(options));
    return amended ? "" : amended.error().message();
  }
  void overwrite(uint64_t offset, const std::string& bytes) const {
    std::fstream file(path("v"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file << bytes;
  }
  // The header with its JSON changed, in both copies.
  void change_json(const std::function<void(schema::JsonObject&)>& change) {
    const std::string all = content("v");
    const auto bytes = std::as_bytes(std::span(all)).first(16384);
    auto header = encryption::parse_luks2_copy(bytes, false);
    ASSERT_TRUE(header) << header.error().message();
    change(header->json);
    for (const bool second : {false, true}) {
      const auto copy = encryption::serialize_luks2_copy(*header, second);
      ASSERT_TRUE(copy);
      overwrite(second ? 16384 : 0,
                std::string(reinterpret_cast<const char*>(copy->data()), copy->size()));
    }
  }
  std::string refusal() { return open_volume() != nullptr ? "" : error_; }
};

TEST_F(Luks2Test, SectorsOfAllSizesComeBack) {
  for (const char* const sector : {"512", "1024", "2048", "4096"}) {
    const auto created = create({{"sector-size", sector}});
    ASSERT_TRUE(created) << created.error().message();
    block::Edge* edge = open_volume();
    ASSERT_NE(edge, nullptr) << error_;
    EXPECT_EQ(edge->length(), 1048576u);
    std::string model(1048576, 'm');
    ASSERT_TRUE(write(*edge, 0, model));
    for (const auto& [offset, length] :
         std::initializer_list<std::pair<uint64_t, uint64_t>>{{1, 1}, {500, 5000}, {4095, 70000}}) {
      ASSERT_TRUE(write(*edge, offset, std::string(length, 'x')));
      model.replace(offset, length, std::string(length, 'x'));
    }
    EXPECT_TRUE(read(*edge, 0, model.size()) == model) << sector;
    detach(edge);
    edge = open_volume();
    ASSERT_NE(edge, nullptr) << error_;
    EXPECT_TRUE(read(*edge, 0, model.size()) == model) << sector;
    detach(edge);
    EXPECT_EQ(content("v").find("mmmmmmmm"), std::string::npos);
  }
}

TEST_F(Luks2Test, Argon2MakesKeys) {
  const auto created =
      create({{"pbkdf", "argon2id"}, {"pbkdf-memory", "64"}, {"pbkdf-threads", "2"}});
  if (!created && created.error().code() == ENOTSUP) {
    GTEST_SKIP() << created.error().message();
  }
  ASSERT_TRUE(created) << created.error().message();
  EXPECT_EQ(open_volume("other"), nullptr);
  EXPECT_EQ(error_, "Invalid password, cannot unlock any keyslot");
  block::Edge* edge = open_volume();
  ASSERT_NE(edge, nullptr) << error_;
  const auto info = run(edge->node().driver().specific_info());
  ASSERT_TRUE(info);
  const auto& told = std::get<schema::ImageInfoSpecificLUKSWrapper>((*info)->branch).data;
  EXPECT_EQ(told.version, 2);
  EXPECT_EQ(told.sector_size, 4096);
  ASSERT_EQ(told.slots.size(), 1u);
  EXPECT_EQ(told.slots[0].iters, 4);
  EXPECT_EQ(told.slots[0].pbkdf, schema::LuksPbkdf::kArgon2id);
  EXPECT_EQ(told.slots[0].memory, 64);
  EXPECT_EQ(told.slots[0].threads, 2);
}

TEST_F(Luks2Test, OneCopyOfTheHeaderIsEnough) {
  for (const uint64_t damaged : {uint64_t{0}, uint64_t{5000}, uint64_t{16384}, uint64_t{20480}}) {
    ASSERT_TRUE(create());
    overwrite(damaged, "damage!!");
    // What says which version it is lies in the first bytes.
    if (damaged == 0) {
      overwrite(0, std::string("LUKS\xba\xbe\0\2", 8));
      overwrite(24, "other label");
    }
    block::Edge* edge = open_volume();
    ASSERT_NE(edge, nullptr) << damaged << ": " << error_;
    EXPECT_EQ(amend(*edge, {{"state", "active"}, {"new-secret", "n"}, {"iter-time", "0"}}), "");
    detach(edge);
    // The change has written both.
    const std::string all = content("v");
    const auto bytes = std::as_bytes(std::span(all));
    EXPECT_TRUE(encryption::parse_luks2_copy(bytes.first(16384), false));
    EXPECT_TRUE(encryption::parse_luks2_copy(bytes.subspan(16384, 16384), true));
  }
  ASSERT_TRUE(create());
  overwrite(5000, "damage!!");
  overwrite(20480, "damage!!");
  EXPECT_EQ(refusal(), "The checksum of the LUKS2 header is wrong");
}

TEST_F(Luks2Test, KeyslotsComeAndGoAndTokensStay) {
  ASSERT_TRUE(create());
  change_json([](schema::JsonObject& json) {
    schema::JsonObject token;
    token.add("type", "somebody-elses");
    token.add("keyslots", schema::JsonArray{schema::JsonValue("0")});
    token.add("theirs", 42);
    json.find("tokens")->as_object()->add("7", std::move(token));
  });
  block::Edge* edge = open_volume();
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(amend(*edge, {{"state", "active"}, {"new-secret", "n"}, {"iter-time", "0"}}), "");
  EXPECT_EQ(
      amend(*edge,
            {{"state", "active"}, {"new-secret", "m"}, {"iter-time", "0"}, {"keyslot", "31"}}),
      "");
  EXPECT_EQ(amend(*edge, {{"state", "active"}, {"new-secret", "m"}, {"keyslot", "32"}}),
            "Invalid keyslot 32 specified, must be between 0 and 31");
  EXPECT_EQ(amend(*edge, {{"state", "inactive"}, {"old-secret", "s"}}), "");
  EXPECT_EQ(amend(*edge, {{"state", "inactive"}, {"keyslot", "0"}}),
            "Given keyslot 0 is already erased (inactive) ");
  detach(edge);
  EXPECT_EQ(refusal(), "Invalid password, cannot unlock any keyslot");
  for (const char* const secret : {"n", "m"}) {
    edge = open_volume(secret);
    ASSERT_NE(edge, nullptr) << error_;
    detach(edge);
  }
  const std::string all = content("v");
  EXPECT_NE(all.find(R"("7": {"type": "somebody-elses", "keyslots": [], "theirs": 42})"),
            std::string::npos);
}

TEST_F(Luks2Test, WhatItDoesNotKnowIsRefusedByName) {
  const auto changed = [this](const std::function<void(schema::JsonObject&)>& change) {
    EXPECT_TRUE(create());
    change_json(change);
    return refusal();
  };
  const auto segment = [](schema::JsonObject& json) -> schema::JsonObject& {
    return *json.find("segments")->as_object()->find("0")->as_object();
  };
  const auto slot = [](schema::JsonObject& json) -> schema::JsonObject& {
    return *json.find("keyslots")->as_object()->find("0")->as_object();
  };
  EXPECT_EQ(changed([](schema::JsonObject& json) {
              schema::JsonObject requirements;
              requirements.add("mandatory", schema::JsonArray{schema::JsonValue("time-travel")});
              json.find("config")->as_object()->add("requirements", std::move(requirements));
            }),
            "Unsupported LUKS2 requirement(s): time-travel");
  EXPECT_EQ(changed([&](schema::JsonObject& json) {
              segment(json).add("integrity", schema::JsonObject());
            }),
            "LUKS2 volumes with integrity are not supported");
  EXPECT_EQ(changed([&](schema::JsonObject& json) {
              (void)segment(json).take("sector_size");
              segment(json).add("sector_size", 1000);
            }),
            "The metadata of the LUKS2 header is damaged: 'sector_size' of the segment");
  EXPECT_EQ(changed([&](schema::JsonObject& json) {
              schema::JsonObject& kdf = *slot(json).find("kdf")->as_object();
              (void)kdf.take("iterations");
              kdf.add("iterations", int64_t{1} << 40);
            }),
            "The metadata of the LUKS2 header is damaged: 'iterations' of a keyslot's kdf");
  EXPECT_EQ(changed([&](schema::JsonObject& json) {
              schema::JsonObject& kdf = *slot(json).find("kdf")->as_object();
              (void)kdf.take("type");
              kdf.add("type", "scrypt");
            }),
            "Key derivation 'scrypt' of a LUKS2 keyslot is not supported");
  EXPECT_EQ(
      changed([&](schema::JsonObject& json) {
        schema::JsonObject& area = *slot(json).find("area")->as_object();
        (void)area.take("offset");
        area.add("offset", "4096");
      }),
      "The metadata of the LUKS2 header is damaged: areas of keyslots overlap with something");
}

// Whatever is cut out of the JSON: refused, or understood; never used before it was checked.
TEST_F(Luks2Test, AnyMemberMayBeMissingOrOfAnotherType) {
  ASSERT_TRUE(create());
  const std::string all = content("v");
  const auto header =
      encryption::parse_luks2_copy(std::as_bytes(std::span(all)).first(16384), false);
  ASSERT_TRUE(header);
  const std::string text = to_text(schema::JsonValue(header->json));
  std::size_t refused = 0;
  for (std::size_t at = text.find('"'); at != text.npos; at = text.find('"', at + 1)) {
    for (const char* const other : {"\"x", "\"-1", "\""}) {
      std::string changed = text;
      changed.replace(at, 1, other);
      const auto json = schema::parse_json(changed);
      if (json && json->as_object() != nullptr) {
        refused += encryption::parse_luks2_metadata(*json->as_object(), 16384, false) ? 0 : 1;
      }
    }
  }
  EXPECT_GT(refused, 50u);
}

TEST_F(Luks2Test, OptionsThatDoNotGoTogetherAreRefused) {
  EXPECT_EQ(create({{"version", "luks1"}, {"pbkdf", "argon2id"}}).error().message(),
            "Parameter 'pbkdf' needs version=luks2");
  EXPECT_EQ(create({{"version", "luks3"}}).error().message(),
            "Parameter 'version' does not accept value 'luks3'");
  EXPECT_EQ(create({{"sector-size", "8192"}}).error().message(),
            "Parameter 'sector-size' expects 512, 1024, 2048 or 4096");
  EXPECT_EQ(create({{"pbkdf-threads", "5"}}).error().message(),
            "Parameter 'pbkdf-threads' expects a number from 1 to 4");
  EXPECT_EQ(create({{"pbkdf-memory", "1"}}).error().message(),
            "Parameter 'pbkdf-memory' expects a number from 32 to 4194304");
}

}  // namespace
}  // namespace cairn::luks
