// Tests of tools/common/image.h: images by filename, by options and by JSON.
#include "tools/common/image.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tools/common/session.h"

namespace cairn::tools {
namespace {

class ImageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "cairn-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    file_ = pattern + "/t.raw";
    std::ofstream(file_).close();
    std::filesystem::resize_file(file_, 1 << 20);
    auto session = Session::create();
    ASSERT_TRUE(session);
    session_ = std::move(*session);
  }
  void TearDown() override {
    session_.reset();
    std::filesystem::remove_all(std::filesystem::path(file_).parent_path());
  }

  // "FORMAT LENGTH NAME" of what opens, or why it does not. "$F" stands for the file, both ways.
  std::string open(std::string text, bool by_options) {
    replace(text, "$F", file_);
    auto node = session_->run(open_image(
        session_->graph(), {.text = text, .by_options = by_options}, {.read_only = true}));
    std::string told;
    if (node) {
      told = fmt::format("{} {} {}", (*node)->info().name, (*node)->length(), (*node)->filename());
      EXPECT_TRUE(session_->run(session_->graph().release(std::move(*node))));
    } else {
      told = node.error().message();
    }
    replace(told, file_, "$F");
    return told;
  }

 private:
  static void replace(std::string& text, const std::string& what, const std::string& with) {
    for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + with.size())) {
      text.replace(at, what.size(), with);
    }
  }

  std::string file_;
  std::unique_ptr<Session> session_;
};

TEST_F(ImageTest, OptionsNameDriversOrLeaveThemOut) {
  EXPECT_EQ(open("$F", false), "raw 1048576 $F");
  EXPECT_EQ(open("driver=raw,file.filename=$F", true), "raw 1048576 $F");
  EXPECT_EQ(open("file.filename=$F", true), "raw 1048576 $F");
  EXPECT_EQ(open("driver=file,filename=$F", true), "file 1048576 $F");
}

TEST_F(ImageTest, OptionsOfADriverArePartOfTheName) {
  EXPECT_EQ(open("driver=raw,offset=64k,size=1k,file.filename=$F", true),
            R"(raw 1024 json:{"driver": "raw", "file": {"driver": "file", "filename": "$F"}, )"
            R"("offset": "64k", "size": "1k"})");
  EXPECT_EQ(open(R"(json:{"driver": "raw", "size": 512, "file.filename": "$F"})", false),
            R"(raw 512 json:{"driver": "raw", "file": {"driver": "file", "filename": "$F"}, )"
            R"("size": 512})");
}

TEST_F(ImageTest, JsonMayBeFoldedAndLeaveTheDriverOut) {
  EXPECT_EQ(open(R"(json:{"file.filename": "$F"})", false), "raw 1048576 $F");
  EXPECT_EQ(open(R"(json:{"driver": "file", "filename": "$F"})", false), "file 1048576 $F");
}

TEST_F(ImageTest, TellsWhichOptionADriverDoesNotHave) {
  EXPECT_EQ(open("driver=raw,file.filename=$F,nosuch=1", true),
            "Block format 'raw' does not support the option 'nosuch'");
  EXPECT_EQ(open("driver=raw,file.filename=$F,file.nosuch=1", true),
            "Block protocol 'file' doesn't support the option 'nosuch'");
  EXPECT_EQ(open("driver=raw", true), "A block device must be specified for \"file\"");
  EXPECT_EQ(open("size=1M", true), "Must specify either driver or file");
  EXPECT_EQ(open("filename=$F", true), "Must specify either driver or file");
  EXPECT_EQ(open("json:{}", false), "Must specify either driver or file");
  EXPECT_EQ(open("driver=nosuch", true), "Unknown driver 'nosuch'");
  EXPECT_EQ(open("x", true), "Cannot find device='x' nor node-name='x'");
  EXPECT_EQ(open("json:[]", false), "Invalid JSON object given");
}

}  // namespace
}  // namespace cairn::tools
