// What requests for a block device do to the node, and how they are answered.
#include <algorithm>
#include <cerrno>
#include <vector>

#include "tests/exports/ublk/ublk_fixture.h"

namespace cairn::ublk {
namespace {

std::vector<std::byte> pattern(std::size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  }
  return bytes;
}

TEST_F(UblkTest, ReadsAndWritesTheNode) {
  ASSERT_TRUE(add());
  const auto data = pattern(8192);
  EXPECT_EQ(request(describe(RequestKind::kWrite, 4, 16), data).result, 8192);
  EXPECT_TRUE(std::ranges::equal(std::span(disk_.bytes).subspan(2048, 8192), data));
  const auto read = request(describe(RequestKind::kRead, 4, 16));
  EXPECT_EQ(read.result, 8192);
  EXPECT_EQ(read.data, data);
}

TEST_F(UblkTest, TakesTheLargestTransfer) {
  ASSERT_TRUE(add());
  const auto data = pattern(kLargestTransfer);
  const auto sectors = static_cast<uint32_t>(kLargestTransfer / 512);
  EXPECT_EQ(request(describe(RequestKind::kWrite, 0, sectors), data).result,
            static_cast<int32_t>(kLargestTransfer));
  EXPECT_EQ(request(describe(RequestKind::kRead, 0, sectors)).data, data);
  EXPECT_EQ(request(describe(RequestKind::kRead, 0, sectors + 1)).result, -EINVAL);
}

TEST_F(UblkTest, FlushesDiscardsAndZeroes) {
  ASSERT_TRUE(add());
  std::ranges::fill(disk_.bytes, std::byte{1});
  EXPECT_EQ(request(describe(RequestKind::kWrite, 0, 1), pattern(512)).result, 512);
  EXPECT_EQ(request(describe(RequestKind::kFlush, 0, 0)).result, 0);
  EXPECT_EQ(disk_.flushes, 1);
  EXPECT_EQ(request(describe(RequestKind::kDiscard, 8, 8)).result, 0);
  EXPECT_EQ(disk_.discards, 1);
  EXPECT_EQ(request(describe(RequestKind::kWriteZeroes, 16, 8)).result, 0);
  EXPECT_TRUE(disk_.last_zero.may_unmap);
  EXPECT_FALSE(disk_.last_zero.fua);
  EXPECT_EQ(disk_.bytes[16 * 512], std::byte{0});
  EXPECT_EQ(request(describe(RequestKind::kWriteZeroes, 16, 8, kKeepAllocated | kDurable)).result,
            0);
  EXPECT_FALSE(disk_.last_zero.may_unmap);
}

TEST_F(UblkTest, MakesWritesDurableThatAskForIt) {
  ASSERT_TRUE(add());
  const auto data = pattern(512);
  EXPECT_EQ(request(describe(RequestKind::kWrite, 0, 1), data).result, 512);
  EXPECT_EQ(disk_.flushes, 0);
  EXPECT_EQ(request(describe(RequestKind::kWrite, 0, 1, kDurable), data).result, 512);
  EXPECT_EQ(disk_.flushes, 1);
}

TEST_F(UblkTest, MakesEveryWriteDurableWhenTold) {
  ASSERT_TRUE(add([](auto& options, auto&) { options.writethrough = true; }));
  const auto data = pattern(512);
  EXPECT_EQ(request(describe(RequestKind::kWrite, 0, 1), data).result, 512);
  EXPECT_EQ(disk_.flushes, 1);
}

TEST_F(UblkTest, AnswersWithTheErrorOfTheNode) {
  ASSERT_TRUE(add());
  disk_.read_error = EIO;
  EXPECT_EQ(request(describe(RequestKind::kRead, 0, 1)).result, -EIO);
  disk_.write_error = ENOSPC;
  EXPECT_EQ(request(describe(RequestKind::kWrite, 0, 1), pattern(512)).result, -ENOSPC);
  disk_.read_error = disk_.write_error = 0;
  EXPECT_EQ(request(describe(RequestKind::kRead, 0, 1)).result, 512) << "it serves on";
}

TEST_F(UblkTest, RefusesWhatMakesNoSense) {
  ASSERT_TRUE(add());
  const uint64_t end = kLength / 512;
  EXPECT_EQ(request(describe(RequestKind::kRead, end, 1)).result, -EIO);
  EXPECT_EQ(request(describe(RequestKind::kRead, end - 1, 2)).result, -EIO);
  EXPECT_LT(request(describe(RequestKind::kDiscard, end - 1, 2)).result, 0);
  EXPECT_EQ(request(describe(RequestKind::kRead, UINT64_MAX / 2, 1)).result, -EINVAL);
  EXPECT_EQ(request(describe(static_cast<RequestKind>(4), 0, 1)).result, -EOPNOTSUPP);
  EXPECT_EQ(request(describe(static_cast<RequestKind>(200), 0, 1)).result, -EOPNOTSUPP);
}

TEST_F(UblkTest, ChangesNothingThroughAnExportForReading) {
  ASSERT_TRUE(add([](auto& options, auto&) { options.writable = false; }));
  EXPECT_EQ(request(describe(RequestKind::kWrite, 0, 1), pattern(512)).result, -EROFS);
  EXPECT_EQ(request(describe(RequestKind::kDiscard, 0, 1)).result, -EROFS);
  EXPECT_EQ(request(describe(RequestKind::kWriteZeroes, 0, 1)).result, -EROFS);
  EXPECT_EQ(request(describe(RequestKind::kRead, 0, 1)).result, 512);
  EXPECT_EQ(disk_.writes, 0);
}

TEST_F(UblkTest, ServesManyRequestsAtOnce) {
  ASSERT_TRUE(add([](auto&, auto& own) {
    own.num_queues = 2;
    own.queue_depth = 8;
  }));
  disk_.open_gate.reset();
  std::vector<uint64_t> numbers;
  for (uint32_t i = 0; i < 16; ++i) {
    disk_.bytes[std::size_t{i} * 512] = static_cast<std::byte>(i);
    numbers.push_back(kernel_.ask(kNumber, describe(RequestKind::kRead, i, 1)));
  }
  EXPECT_TRUE(until([this] { return disk_.waiting == 16; }));
  EXPECT_FALSE(kernel_.answer(kNumber, numbers[0]));
  disk_.open_gate.set();
  for (uint32_t i = 0; i < 16; ++i) {
    ASSERT_TRUE(until([&] { return kernel_.answer(kNumber, numbers[i]).has_value(); }));
    EXPECT_EQ(kernel_.answer(kNumber, numbers[i])->data[0], static_cast<std::byte>(i));
  }
}

TEST_F(UblkTest, AnswersWhatWasAskedBeforeItGoes) {
  ASSERT_TRUE(add());
  disk_.open_gate.reset();
  const uint64_t number = kernel_.ask(kNumber, describe(RequestKind::kWrite, 0, 1), pattern(512));
  ASSERT_TRUE(until([this] { return disk_.waiting == 1; }));
  ASSERT_TRUE(registry_->remove("e", exports::RemoveMode::kHard));
  for (int i = 0; i < 20; ++i) {
    run(rest());
  }
  EXPECT_EQ(deleted_, 0);
  EXPECT_FALSE(kernel_.answer(kNumber, number));
  disk_.open_gate.set();
  EXPECT_TRUE(until([this] { return deleted_ == 1; }));
  EXPECT_EQ(disk_.writes, 1);
  EXPECT_FALSE(kernel_.device(kNumber));
}

}  // namespace
}  // namespace cairn::ublk
