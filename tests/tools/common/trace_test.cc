// Tests of tools/common/trace.h.
#include "tools/common/trace.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tools/common/report.h"

namespace cairn::tools {
namespace {

// What is said about a wish that is granted.
std::string warnings(std::string_view text) {
  set_program_name("prog");
  testing::internal::CaptureStderr();
  const Result<TraceWish> wish = take_trace(text);
  EXPECT_TRUE(wish && *wish == TraceWish::kReport);
  return testing::internal::GetCapturedStderr();
}

TEST(Trace, WarnsOfEventsThatDoNotExist) {
  const std::string warning = "prog: warning: trace event 'nosuch' does not exist\n";
  EXPECT_EQ(warnings("nosuch"), warning);
  EXPECT_EQ(warnings("enable=nosuch"), warning);
  EXPECT_EQ(warnings("-nosuch"), warning);
  EXPECT_EQ(warnings("nosuch,file=log"), warning);
}

TEST(Trace, TakesPatternsQuietly) {
  EXPECT_EQ(warnings("nbd_*"), "");
  EXPECT_EQ(warnings("file=log"), "");
  EXPECT_EQ(warnings(""), "");
}

TEST(Trace, ReadsListsOfEvents) {
  const std::string path = testing::TempDir() + "cairn-trace-events";
  std::ofstream(path) << "one\n# two\n\n";
  EXPECT_EQ(warnings("events=" + path),
            "prog: " + path + ":1: warning: trace event 'one' does not exist\n");
  std::filesystem::remove(path);
  EXPECT_EQ(take_trace("events=" + path).error().message(),
            "Cannot open the list of trace events '" + path + "': No such file or directory");
}

TEST(Trace, KnowsWhatElseIsAsked) {
  EXPECT_EQ(*take_trace("help"), TraceWish::kList);
  EXPECT_EQ(*take_trace("enable=help"), TraceWish::kList);
  EXPECT_EQ(take_trace("foo=bar").error().message(), "Invalid parameter 'foo'");
}

}  // namespace
}  // namespace cairn::tools
