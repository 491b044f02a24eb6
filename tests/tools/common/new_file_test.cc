// Tests of tools/common/new_file.h.
#include "tools/common/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "protocols/file/image_lock.h"

namespace cairn::tools {
namespace {

namespace fs = std::filesystem;

class NewFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "cairn-new-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  [[nodiscard]] std::string at(const std::string& name) const { return folder_ / name; }
  static void put(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string content(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  [[nodiscard]] NewFile begin(const std::string& name,
                              NewFile::Way way = NewFile::Way::kAside) const {
    auto file = NewFile::begin(at(name), way);
    EXPECT_TRUE(file) << file.error().message();
    return file ? std::move(*file) : NewFile();
  }

  fs::path folder_;
};

TEST_F(NewFileTest, GetsItsNameWhenItIsComplete) {
  NewFile file = begin("a");
  EXPECT_TRUE(file.aside());
  put(file.path(), "whole");
  EXPECT_FALSE(fs::exists(at("a")));
  ASSERT_TRUE(file.publish(true));
  EXPECT_EQ(content(at("a")), "whole");
  EXPECT_EQ(files(), 1u);
  EXPECT_TRUE(file.abandon());  // too late for that
  EXPECT_EQ(content(at("a")), "whole");
}

TEST_F(NewFileTest, LeavesNothingWhenItIsGivenUp) {
  NewFile file = begin("a");
  put(file.path(), "half");
  EXPECT_TRUE(file.abandon());
  EXPECT_EQ(files(), 0u);
}

TEST_F(NewFileTest, IsMadeByOneAtATime) {
  NewFile first = begin("a");
  put(first.path(), "x");
  const auto second = NewFile::begin(at("a"), NewFile::Way::kAside);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message(), "Failed to get \"write\" lock");
  EXPECT_EQ(second.error().hint(),
            fmt::format("Is another process using the image [{}]?", at("a")));
  EXPECT_EQ(content(first.path()), "x");
}

TEST_F(NewFileTest, TakesOverWhatAKilledOneLeft) {
  put(at(".a.part"), "remains");
  NewFile file = begin("a");
  EXPECT_TRUE(file.aside());
  EXPECT_EQ(content(file.path()), "");
  ASSERT_TRUE(file.publish(false));
  EXPECT_EQ(files(), 1u);
}

TEST_F(NewFileTest, FollowsNoLinkAndSharesNoFile) {
  put(at("precious"), "p");
  fs::create_symlink(at("precious"), at(".a.part"));
  EXPECT_FALSE(begin("a").aside());
  fs::create_hard_link(at("precious"), at(".b.part"));
  EXPECT_FALSE(begin("b").aside());
  EXPECT_EQ(content(at("precious")), "p");
}

TEST_F(NewFileTest, DoesNotReplaceWhatSomebodyElseMade) {
  NewFile file = begin("a");
  put(at("a"), "theirs");
  const auto published = file.publish(false);
  ASSERT_FALSE(published);
  EXPECT_EQ(published.error().code(), EEXIST);
  EXPECT_TRUE(file.abandon());
  EXPECT_EQ(content(at("a")), "theirs");
  EXPECT_EQ(files(), 1u);
}

TEST_F(NewFileTest, TellsWhenItWasRemoved) {
  NewFile file = begin("a");
  fs::remove(file.path());
  const auto published = file.publish(false);
  ASSERT_FALSE(published);
  EXPECT_EQ(published.error().message(),
            fmt::format("'{}' was removed while it was written", at("a")));
  NewFile in_place = begin("b", NewFile::Way::kInPlace);
  in_place.created();
  EXPECT_FALSE(in_place.publish(false));
}

TEST_F(NewFileTest, WritesInPlaceWhatExists) {
  put(at("a"), "old");
  fs::create_hard_link(at("a"), at("b"));
  fs::create_symlink("a", at("c"));
  for (const char* const name : {"a", "b", "c"}) {
    NewFile file = begin(name);
    EXPECT_FALSE(file.aside());
    EXPECT_FALSE(file.fresh());
    EXPECT_EQ(file.path(), at(name));
    EXPECT_TRUE(file.abandon());  // before anything was written
    EXPECT_EQ(content(at("a")), "old");
  }
}

TEST_F(NewFileTest, EmptiesWhatExistedAndIsNotWhole) {
  put(at("a"), "half");
  chmod(at("a").c_str(), 0600);
  fs::create_symlink("a", at("c"));
  NewFile file = begin("c");
  file.created();
  EXPECT_TRUE(file.abandon());
  EXPECT_EQ(fs::file_size(at("a")), 0u);
  EXPECT_TRUE(fs::is_symlink(at("c")));
  struct stat status = {};
  ASSERT_EQ(stat(at("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(NewFileTest, DoesNotEmptyWhatSomebodyElseUses) {
  put(at("a"), "theirs");
  NewFile file = begin("a");
  file.created();
  const io::Fd user(open(at("a").c_str(), O_RDWR));
  file::ImageLock lock;
  using block::PermissionSet;
  ASSERT_TRUE(lock.take(user.get(), {PermissionSet::kWrite | PermissionSet::kResize,
                                     PermissionSet::kWrite | PermissionSet::kResize}));
  EXPECT_FALSE(file.abandon());
  EXPECT_EQ(content(at("a")), "theirs");
}

TEST_F(NewFileTest, RemovesWhatALinkToNowhereLedTo) {
  fs::create_symlink("real", at("link"));
  NewFile file = begin("link");
  EXPECT_FALSE(file.aside());
  EXPECT_TRUE(file.fresh());
  put(file.path(), "half");
  file.created();
  EXPECT_TRUE(file.abandon());
  EXPECT_FALSE(fs::exists(at("real")));
  EXPECT_TRUE(fs::is_symlink(at("link")));
}

TEST_F(NewFileTest, RemovesWhatWasMadeBesides) {
  put(at("kept"), "k");
  NewFile file = begin("a", NewFile::Way::kInPlace);
  file.add(at("data"));
  file.add(at("kept"));
  file.created();
  put(at("a"), "half");
  put(at("data"), "half");
  EXPECT_TRUE(file.abandon());
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(content(at("kept")), "k");
}

TEST_F(NewFileTest, WritesLongNamesInPlace) {
  EXPECT_FALSE(begin(std::string(252, 'n')).aside());
  EXPECT_FALSE(begin("").aside());
}

TEST_F(NewFileTest, SpeaksOfTheNameThatTheUserKnows) {
  const NewFile file = begin("a");
  const Error error =
      file.in_users_words(Error(EIO, fmt::format("Could not write '{}'", file.path()))
                              .with_hint(fmt::format("[{}]", file.path())));
  EXPECT_EQ(error.message(), fmt::format("Could not write '{}'", at("a")));
  EXPECT_EQ(error.hint(), fmt::format("[{}]", at("a")));
  EXPECT_EQ(error.code(), EIO);
}

TEST_F(NewFileTest, WhatWasBegunCanBeGoneOnWith) {
  {
    auto file = NewFile::begin_or_resume(at("a"), "one way");
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_FALSE(file->resumed());
    put(file->path(), "half");
    ASSERT_TRUE(file->keep_incomplete());
    EXPECT_TRUE(file->abandon());
  }
  EXPECT_EQ(files(), 2u);
  const auto other = NewFile::begin_or_resume(at("a"), "another way");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), EEXIST);
  auto file = NewFile::begin_or_resume(at("a"), "one way");
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(file->resumed());
  EXPECT_EQ(content(file->path()), "half");
  ASSERT_TRUE(file->publish(true));
  EXPECT_EQ(content(at("a")), "half");
  EXPECT_EQ(files(), 1u);
  EXPECT_FALSE(NewFile::begin_or_resume(at("a"), "one way"));
}

TEST_F(NewFileTest, WithoutANoteItIsBegunAnew) {
  {
    auto file = NewFile::begin_or_resume(at("a"), "one way");
    ASSERT_TRUE(file);
    put(file->path(), "half");
  }  // as if killed
  auto file = NewFile::begin_or_resume(at("a"), "one way");
  ASSERT_TRUE(file);
  EXPECT_FALSE(file->resumed());
  EXPECT_EQ(content(file->path()), "");
  EXPECT_TRUE(file->abandon());
  EXPECT_EQ(files(), 0u);
}

TEST_F(NewFileTest, WhoDoesNotGoOnTakesTheNoteAway) {
  {
    auto file = NewFile::begin_or_resume(at("a"), "one way");
    ASSERT_TRUE(file);
    put(file->path(), "half");
    ASSERT_TRUE(file->keep_incomplete());
  }
  NewFile file = begin("a");
  EXPECT_EQ(content(file.path()), "");
  ASSERT_TRUE(file.publish(false));
  EXPECT_EQ(files(), 1u);
}

}  // namespace
}  // namespace cairn::tools
