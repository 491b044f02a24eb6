// Chains of backups: their list, their files, and what becomes of bitmaps that were left.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "schema/json.h"
#include "tools/ctl/backup_bitmaps.h"
#include "tools/ctl/backup_chain.h"
#include "tools/ctl/backup_files.h"

namespace cairn::ctl {
namespace {

constexpr std::string_view kId = "0123456789abcdef";

std::string bitmap_name(std::string_view rest) {
  return "cairn-backup-" + std::string(kId) + "-" + std::string(rest);
}

BackupPoint point(uint64_t number, bool full) {
  return {.number = number,
          .full = full,
          .time = "2026-01-31T12:00:00Z",
          .virtual_size = 1 << 20,
          .length = 196616,
          .sha256 = std::string(64, 'a'),
          .bitmap = bitmap_name(fmt::format("{:04}-00000000", number))};
}

BackupChain chain_of(std::vector<BackupPoint> points) {
  return {.id = std::string(kId), .node = "disk", .points = std::move(points)};
}

std::string text_of(const BackupChain& chain) { return schema::to_text(chain.to_json()); }

// The text of a chain of two points with one part replaced.
std::string text_with(std::string_view part, std::string_view replacement) {
  std::string text = text_of(chain_of({point(1, true), point(2, false)}));
  const size_t at = text.find(part);
  EXPECT_NE(at, text.npos) << part << " in " << text;
  return text.replace(at, part.size(), replacement);
}

// A directory that goes with the test.
class CtlBackupFiles : public ::testing::Test {
 protected:
  CtlBackupFiles() {
    std::string path = (std::filesystem::temp_directory_path() / "cairn-XXXXXX").string();
    directory_ = mkdtemp(path.data());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::string write(const std::string& name, std::string_view content) const {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  std::string directory_;
};

TEST(CtlBackupChain, IsTheSameAfterItWasWrittenAndRead) {
  const BackupChain chain = chain_of({point(1, true), point(2, false), point(7, true)});
  const auto read = parse_backup_chain(text_of(chain));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(text_of(*read), text_of(chain));
  EXPECT_EQ(read->last()->number, 7U);
  EXPECT_EQ(read->find(2)->file(), "0002.qcow2");
  EXPECT_EQ(read->find(3), nullptr);
}

TEST(CtlBackupChain, APointNeedsThoseBackToAFullOne) {
  const BackupChain chain =
      chain_of({point(1, true), point(2, false), point(3, true), point(4, false), point(5, false)});
  const auto numbers = [&](uint64_t number) {
    std::string text;
    for (const BackupPoint& needed : chain.needed_for(number)) {
      text += fmt::format("{} ", needed.number);
    }
    return text;
  };
  EXPECT_EQ(numbers(1), "1 ");
  EXPECT_EQ(numbers(2), "1 2 ");
  EXPECT_EQ(numbers(3), "3 ");
  EXPECT_EQ(numbers(5), "3 4 5 ");
  EXPECT_EQ(numbers(6), "");
}

TEST(CtlBackupChain, WhatIsNoChainIsRefused) {
  ASSERT_TRUE(parse_backup_chain(text_with("full", "full")));
  for (const auto& [part, replacement] :
       {std::pair("\"version\": 1", "\"version\": 0"), std::pair("\"id\": \"0", "\"id\": \"g"),
        std::pair("\"id\": \"0", "\"id\": \""), std::pair("\"node\": \"disk\"", "\"node\": 5"),
        std::pair("\"points\": [", "\"points\": [5, "), std::pair("\"number\": 2", "\"number\": 1"),
        std::pair("\"number\": 1", "\"number\": 0"), std::pair("\"number\": 1", "\"number\": -1"),
        std::pair("\"kind\": \"full\"", "\"kind\": \"incremental\""),
        std::pair("\"kind\": \"incremental\"", "\"kind\": \"other\""),
        std::pair("0002.qcow2", "../2.qcow2"), std::pair("\"length\": 196616", "\"length\": \"x\""),
        std::pair("\"sha256\": \"aa", "\"sha256\": \"a"),
        std::pair("\"bitmap\": \"cairn", "\"bitmap\": \"other")}) {
    const auto read = parse_backup_chain(text_with(part, replacement));
    ASSERT_FALSE(read) << replacement;
    EXPECT_EQ(read.error().code(), EINVAL) << replacement;
  }
  EXPECT_EQ(parse_backup_chain(text_with("\"version\": 1", "\"version\": 2")).error().code(),
            ENOTSUP);
  EXPECT_FALSE(parse_backup_chain("[]"));
  EXPECT_FALSE(parse_backup_chain(""));
  EXPECT_FALSE(parse_backup_chain(text_of(chain_of({})).substr(0, 30)));
}

TEST(CtlBackupChain, NamesOfBitmapsAreNeverUsedAgain) {
  const BackupChain chain = BackupChain::make("disk").value();
  EXPECT_NE(chain.id, BackupChain::make("disk").value().id);
  const std::string name = chain.new_bitmap(3).value();
  EXPECT_TRUE(name.starts_with("cairn-backup-" + chain.id + "-0003-")) << name;
  EXPECT_NE(name, chain.new_bitmap(3).value());
}

TEST_F(CtlBackupFiles, AChainIsReplacedAsAWhole) {
  EXPECT_FALSE(load_backup_chain(directory_).value());
  ASSERT_TRUE(save_backup_chain(directory_, chain_of({})));
  ASSERT_TRUE(save_backup_chain(directory_, chain_of({point(1, true)})));
  EXPECT_EQ(load_backup_chain(directory_).value()->points.size(), 1U);
  EXPECT_FALSE(path_exists(directory_ + "/chain.json.new").value());

  // What is in the way of the new one leaves the old one.
  std::filesystem::create_directory(directory_ + "/chain.json.new");
  const auto saved = save_backup_chain(directory_, chain_of({}));
  ASSERT_FALSE(saved);
  EXPECT_NE(saved.error().message().find("chain.json.new"), std::string::npos);
  EXPECT_EQ(load_backup_chain(directory_).value()->points.size(), 1U);

  static_cast<void>(write("chain.json", "{"));
  const auto damaged = load_backup_chain(directory_);
  ASSERT_FALSE(damaged);
  EXPECT_NE(damaged.error().message().find(directory_ + "/chain.json"), std::string::npos);
}

TEST_F(CtlBackupFiles, ADirectoryHasOneUser) {
  {
    const auto lock = lock_directory(directory_);
    ASSERT_TRUE(lock);
    EXPECT_EQ(lock_directory(directory_).error().code(), EAGAIN);
  }
  EXPECT_TRUE(lock_directory(directory_));
}

TEST_F(CtlBackupFiles, ANameThatIsTakenStaysAsItIs) {
  const std::string from = write("from", "new");
  const std::string to = write("to", "old");
  EXPECT_EQ(publish_file(from, to).error().code(), EEXIST);
  EXPECT_EQ(read_small_file(to).value(), "old");
  ASSERT_TRUE(remove_file(to));
  ASSERT_TRUE(remove_file(to));
  ASSERT_TRUE(publish_file(from, to));
  EXPECT_EQ(read_small_file(to).value(), "new");
  EXPECT_FALSE(path_exists(from).value());
}

TEST_F(CtlBackupFiles, DigestsAreOfTheWholeFile) {
  const auto digest = digest_file(write("abc", "abc"));
  ASSERT_TRUE(digest);
  EXPECT_EQ(digest->length, 3U);
  EXPECT_EQ(digest->sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // Longer than what is read at once, and just as long.
  for (const size_t length : {size_t{1} << 20, (size_t{1} << 20) + 1}) {
    EXPECT_EQ(digest_file(write("long", std::string(length, 'x')))->length, length);
  }
  EXPECT_NE(digest_file(write("a", std::string((1 << 20) + 1, 'x')))->sha256,
            digest_file(write("b", std::string(1 << 20, 'x') + "y"))->sha256);
}

TEST_F(CtlBackupFiles, HeadersTellTheBackingFile) {
  std::string header(512, '\0');
  header.replace(0, 4, "QFI\xfb");
  EXPECT_EQ(backing_name_in(write("none", header)).value(), "");
  header[14] = 1;  // at 256
  header[19] = 10;
  header.replace(256, 10, "0001.qcow2");
  EXPECT_EQ(backing_name_in(write("some", header)).value(), "0001.qcow2");
  EXPECT_FALSE(backing_name_in(write("cut", header.substr(0, 260))));
  header[17] = 1;  // a name of 64 KiB
  EXPECT_FALSE(backing_name_in(write("long", header)));
  EXPECT_FALSE(backing_name_in(write("other", "no image, but long enough for one")));
  EXPECT_FALSE(backing_name_in(write("short", "QFI\xfb")));
}

struct BitmapCase {
  std::string_view name;
  std::vector<DiskBitmap> bitmaps;
  bool usable;
  std::string_view actions;  // their kinds, with the last digit of each bitmap's point
};

// "merge 1<2, enable 1, remove 2"
std::string spelled(const BitmapPlan& plan) {
  const auto point_in = [](const schema::JsonValue& name) {
    return name.as_string()->substr(kId.size() + 17, 1);
  };
  std::string text;
  for (const schema::JsonValue& action : plan.actions) {
    const std::string kind =
        action.as_object()->find("type")->as_string()->substr(std::size("block-dirty-bitmap"));
    const schema::JsonObject& data = *action.as_object()->find("data")->as_object();
    EXPECT_EQ(*data.find("node")->as_string(), "disk");
    text += text.empty() ? "" : ", ";
    if (kind == "merge") {
      text += "merge " + point_in(*data.find("target")) + "<";
      for (const schema::JsonValue& source : *data.find("bitmaps")->as_array()) {
        text += point_in(source);
      }
    } else {
      text += kind + " " + point_in(*data.find("name"));
    }
  }
  return text;
}

TEST(CtlBackupBitmaps, WhatIsLeftIsPutTogether) {
  const std::string first = bitmap_name("0001-00000000");
  const std::string second = bitmap_name("0002-00000000");
  const std::string third = bitmap_name("0003-11111111");
  const DiskBitmap foreign{.name = "cairn-backup-ffffffffffffffff-0003-00000000"};
  const BitmapCase cases[] = {
      {"in order", {{second, true}, foreign}, true, ""},
      {"the old one is left", {{first, false}, {second, true}}, true, "remove 1"},
      {"an incremental one was interrupted",
       {{second, false}, {third, true}},
       true,
       "merge 2<3, enable 2, remove 3"},
      {"a full one was interrupted", {{second, true}, {third, true}}, true, "merge 2<3, remove 3"},
      {"the new one is not to be trusted",
       {{second, false}, {third, true, true}},
       false,
       "remove 2, remove 3"},
      {"it has recorded all the time", {{second, true}, {third, true, true}}, true, "remove 3"},
      {"it was switched off", {{second, false}}, false, "remove 2"},
      {"it is inconsistent", {{second, true, true}}, false, "remove 2"},
      {"it is inconsistent, and the new one is not",
       {{second, false, true}, {third, true}},
       false,
       "remove 2, remove 3"},
      {"it is gone", {{third, true}}, false, "remove 3"},
      {"one of the same point in another copy",
       {{bitmap_name("0002-22222222"), true}},
       false,
       "remove 2"},
      {"nothing is there", {}, false, ""},
  };
  const BackupChain chain = chain_of({point(1, true), point(2, false)});
  for (const BitmapCase& one : cases) {
    const BitmapPlan plan = plan_bitmaps(
        chain, {.name = "disk", .size = 1 << 20, .keeps_bitmaps = true, .bitmaps = one.bitmaps});
    EXPECT_EQ(plan.usable, one.usable) << one.name;
    EXPECT_EQ(plan.why_not.empty(), one.usable) << one.name;
    EXPECT_EQ(spelled(plan), one.actions) << one.name;
  }
}

TEST(CtlBackupBitmaps, BeforeTheFirstPointNoneIsOfUse) {
  const BitmapPlan plan =
      plan_bitmaps(chain_of({}), {.name = "disk",
                                  .size = 1,
                                  .keeps_bitmaps = true,
                                  .bitmaps = {{bitmap_name("0001-00000000"), true}}});
  EXPECT_FALSE(plan.usable);
  EXPECT_EQ(spelled(plan), "remove 1");
}

}  // namespace
}  // namespace cairn::ctl
