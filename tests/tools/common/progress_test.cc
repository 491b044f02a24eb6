// Tests of tools/common/progress.h. What "-p" prints elsewhere than on a terminal is in the
// transcripts.
#include "tools/common/progress.h"

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

constexpr uint64_t kMiB = 1u << 20;

TEST(ProgressBar, ShowsRateAndTimeLeft) {
  EXPECT_EQ(progress_bar({.done = 32 * kMiB, .total = 128 * kMiB, .seconds = 2}, 80),
            "  25.00% [=======>                     ] 32 MiB of 128 MiB, 16 MiB/s, 0:06 left");
}

TEST(ProgressBar, ShowsTheTimeThatItTookAtTheEnd) {
  EXPECT_EQ(progress_bar({.done = 64 * kMiB, .total = 64 * kMiB, .seconds = 4000}, 70),
            " 100.00% [====================] 64 MiB of 64 MiB, 16.4 KiB/s, 1:06:40");
}

TEST(ProgressBar, PromisesNothingAtTheBeginning) {
  const std::string line = progress_bar({.done = 0, .total = kMiB, .seconds = 0}, 50);
  EXPECT_EQ(line.find("left"), std::string::npos) << line;
  EXPECT_NE(line.find("[>"), std::string::npos) << line;
}

TEST(ProgressBar, FitsIntoAnyTerminal) {
  const ProgressState state{.done = 5 * kMiB, .total = 7 * kMiB, .seconds = 3};
  for (unsigned columns = 0; columns < 200; ++columns) {
    EXPECT_LE(progress_bar(state, columns).size(), columns > 0 ? columns - 1 : 0);
  }
}

TEST(ProgressBar, OfNothingIsFull) {
  EXPECT_EQ(ProgressState{}.percent(), 100);
  EXPECT_NE(progress_bar({}, 80).find("100.00%"), std::string::npos);
}

TEST(ProgressJson, TellsAllInBytesAndSeconds) {
  EXPECT_EQ(progress_json({.done = kMiB, .total = 4 * kMiB, .seconds = 0.5}),
            R"({"done": 1048576, "total": 4194304, "percent": 25.00, "rate": 2097152, )"
            R"("remaining": 1.5})");
}

TEST(ProgressJson, SaysNullForWhatItCanNotTell) {
  EXPECT_EQ(progress_json({.done = 0, .total = kMiB, .seconds = 0.5}),
            R"({"done": 0, "total": 1048576, "percent": 0.00, "rate": null, "remaining": null})");
}

}  // namespace
}  // namespace cairn::tools
