// Tests of tools/io/text.h.
#include "tools/io/text.h"

#include <array>

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

TEST(IoText, ShowsSizes) {
  EXPECT_EQ(io_size_text(0), "0 bytes");
  EXPECT_EQ(io_size_text(512), "512 bytes");
  EXPECT_EQ(io_size_text(1024), "1 KiB");
  EXPECT_EQ(io_size_text(3584), "3.500 KiB");
  EXPECT_EQ(io_size_text(1536 * 1024), "1.500 MiB");
  EXPECT_EQ(io_size_text(1023 * 1024), "1023 KiB");
  EXPECT_EQ(io_size_text(0x1p60), "1 EiB");
  EXPECT_EQ(io_size_text(0.5), "0.500000 bytes");
}

TEST(IoText, ReadsNumbers) {
  EXPECT_EQ(parse_io_number("1.5k"), 1536u);
  testing::internal::CaptureStdout();
  EXPECT_FALSE(parse_io_number("x"));
  EXPECT_FALSE(parse_io_number("8E"));
  fflush(stdout);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x\n"
            "Parsing error: argument too large -- 8E\n");
}

TEST(IoText, ReadsPatterns) {
  EXPECT_EQ(parse_io_pattern("255"), 255);
  EXPECT_EQ(parse_io_pattern("0x5a"), 0x5a);
  EXPECT_EQ(parse_io_pattern("010"), 8);
  EXPECT_EQ(parse_io_pattern("0"), 0);
  testing::internal::CaptureStdout();
  for (const char* text : {"256", "-1", "abc", "0x", ""}) {
    EXPECT_FALSE(parse_io_pattern(text)) << text;
  }
  fflush(stdout);
  EXPECT_TRUE(testing::internal::GetCapturedStdout().starts_with("256 is not a valid pattern"));
}

TEST(IoText, DumpsSixteenBytesALine) {
  std::array<std::byte, 18> bytes{};
  bytes[0] = std::byte{'A'};
  bytes[1] = std::byte{'/'};
  bytes[17] = std::byte{0xff};
  testing::internal::CaptureStdout();
  print_io_buffer(bytes, 500);
  fflush(stdout);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "000001f4:  41 2f 00 00 00 00 00 00 00 00 00 00 00 00 00 00  A...............\n"
            "00000204:  00 ff  ..\n");
}

TEST(IoText, TellsHowFastARequestWas) {
  testing::internal::CaptureStdout();
  IoFigures figures{.verb = "wrote",
                    .offset = 4096,
                    .asked = 2048,
                    .done = 2048,
                    .elapsed = std::chrono::seconds(2)};
  print_io_figures(figures);
  figures.elapsed = std::chrono::seconds(3723);
  figures.machine_readable = true;
  print_io_figures(figures);
  fflush(stdout);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "wrote 2048/2048 bytes at offset 4096\n"
            "2 KiB, 1 ops; 02.00 sec (1 KiB/sec and 0.5000 ops/sec)\n"
            "2048,1,1:02:03.00,0.550,0.000\n");
}

}  // namespace
}  // namespace cairn::tools
