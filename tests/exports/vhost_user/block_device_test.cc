// What requests do, by their bytes.
#include "exports/vhost_user/block_device.h"

#include <linux/virtio_blk.h>

#include <array>
#include <cerrno>
#include <vector>

#include "base/bytes.h"
#include "exports/vhost_user/protocol.h"
#include "exports/vhost_user/virtio.h"
#include "tests/exports/vhost_user/device_test.h"

namespace cairn::vhost_user {
namespace {

class BlockDeviceTest : public DeviceTest {
 protected:
  struct Answer {
    int status;
    uint32_t written;
    std::vector<std::byte> data;
  };

  Answer ask(uint32_t type, uint64_t sector, std::vector<std::byte> out, std::size_t room) {
    std::array<std::byte, 16> header{};
    store_le(header.data(), type);
    store_le(header.data() + 8, sector);
    Answer answer{
        .status = 0, .written = 0, .data = std::vector<std::byte>(room + 1, std::byte{0xee})};
    Chain chain;
    chain.readable.append(header.data(), header.size());
    chain.readable.append(out.data(), out.size());
    chain.writable.append(answer.data.data(), answer.data.size());
    EXPECT_TRUE(BlockDevice::check(chain));
    answer.written = run(device_->execute(chain));
    answer.status = std::to_integer<int>(answer.data.back());
    answer.data.pop_back();
    return answer;
  }
  static std::vector<std::byte> range(uint64_t sector, uint32_t sectors, uint32_t flags = 0) {
    std::vector<std::byte> bytes(16);
    store_le(bytes.data(), sector);
    store_le(bytes.data() + 8, sectors);
    store_le(bytes.data() + 12, flags);
    return bytes;
  }
  static std::vector<std::byte> data(std::size_t size, char value) {
    return std::vector<std::byte>(size, std::byte(value));
  }
  void remake(DeviceSettings settings) {
    device_ = std::make_unique<BlockDevice>(*root_, settings);
  }
};

TEST_F(BlockDeviceTest, ReadsWhatWasWritten) {
  const Answer written = ask(VIRTIO_BLK_T_OUT, 3, data(1024, 'w'), 0);
  EXPECT_EQ(written.status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(written.written, 1u);
  EXPECT_EQ(disk_.bytes[3 * 512 - 1], std::byte{0});
  EXPECT_EQ(disk_.bytes[3 * 512], std::byte{'w'});
  EXPECT_EQ(disk_.bytes[5 * 512], std::byte{0});
  const Answer read = ask(VIRTIO_BLK_T_IN, 4, {}, 512);
  EXPECT_EQ(read.status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(read.written, 513u);
  EXPECT_EQ(read.data, data(512, 'w'));
}

TEST_F(BlockDeviceTest, RefusesWhatDoesNotLieInTheDisk) {
  EXPECT_EQ(ask(VIRTIO_BLK_T_IN, kLength / 512, {}, 512).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_IN, kLength / 512 - 1, {}, 1024).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_IN, ~uint64_t{0}, {}, 512).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_IN, uint64_t{1} << 55, {}, 512).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_OUT, kLength / 512, data(512, 'w'), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_IN, 0, {}, 100).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_OUT, 0, data(100, 'w'), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(disk_.writes, 0);
}

TEST_F(BlockDeviceTest, RefusesTransfersThatWouldTakeLong) {
  disk_.bytes.resize(std::size_t{130} << 20);
  // The same memory many times: a request can be far larger than all that is shared.
  std::vector<std::byte> piece(1 << 20);
  std::array<std::byte, 16> header{};
  std::byte status{0xee};
  const auto read = [&](int pieces) {
    Chain chain;
    chain.readable.append(header.data(), header.size());
    for (int i = 0; i < pieces; ++i) {
      chain.writable.append(piece.data(), piece.size());
    }
    chain.writable.append(&status, 1);
    run(device_->execute(chain));
    return std::to_integer<int>(status);
  };
  EXPECT_EQ(read(128), VIRTIO_BLK_S_OK);
  EXPECT_EQ(read(129), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlockDeviceTest, BeginsRequestsAtBlocks) {
  remake({.writable = true, .block_size = 4096});
  EXPECT_EQ(ask(VIRTIO_BLK_T_IN, 1, {}, 4096).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_IN, 8, {}, 4096).status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, range(1, 8), 0).status, VIRTIO_BLK_S_IOERR);
}

TEST_F(BlockDeviceTest, SaysThatItDoesNotKnowARequest) {
  for (const uint32_t type : {2u, 3u, 5u, 7u, 9u, 12u, 14u, 99u, 0x7fffffffu}) {
    EXPECT_EQ(ask(type, 0, {}, 20).status, VIRTIO_BLK_S_UNSUPP) << type;
  }
}

TEST_F(BlockDeviceTest, TellsErrorsOfTheNode) {
  disk_.read_error = EIO;
  const Answer read = ask(VIRTIO_BLK_T_IN, 0, {}, 512);
  EXPECT_EQ(read.status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(read.written, 0u) << "nothing of the data counts";
  disk_.write_error = ENOSPC;
  EXPECT_EQ(ask(VIRTIO_BLK_T_OUT, 0, data(512, 'w'), 0).status, VIRTIO_BLK_S_IOERR);
  disk_.write_error = 0;
}

TEST_F(BlockDeviceTest, SaysWhoItIs) {
  const Answer answer = ask(VIRTIO_BLK_T_GET_ID, 0, {}, 30);
  EXPECT_EQ(answer.status, VIRTIO_BLK_S_OK);
  EXPECT_STREQ(reinterpret_cast<const char*>(answer.data.data()), "vhost_user_blk");
  EXPECT_EQ(answer.written, 20u);
  EXPECT_EQ(answer.data[20], std::byte{0xee}) << "no more than that";
  EXPECT_EQ(ask(VIRTIO_BLK_T_GET_ID, 0, {}, 3).data,
            (std::vector{std::byte{'v'}, std::byte{'h'}, std::byte{'o'}}));
}

TEST_F(BlockDeviceTest, DiscardsAndZeroes) {
  std::ranges::fill(disk_.bytes, std::byte{'x'});
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, range(0, 8), 0).status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(disk_.discards, 1);
  EXPECT_EQ(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, range(8, 8), 0).status, VIRTIO_BLK_S_OK);
  EXPECT_FALSE(disk_.last_zero.may_unmap);
  EXPECT_EQ(disk_.bytes[8 * 512], std::byte{0});
  EXPECT_EQ(disk_.bytes[16 * 512], std::byte{'x'});
  EXPECT_EQ(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, range(16, 8, 1), 0).status, VIRTIO_BLK_S_OK);
  EXPECT_TRUE(disk_.last_zero.may_unmap);
}

TEST_F(BlockDeviceTest, RefusesRangesThatAreNone) {
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, range(0, 8, 1), 0).status, VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, range(0, 8, 2), 0).status, VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, range(0, 32769), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, range(~uint64_t{0}, 8), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, range(kLength / 512, 1), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, {}, 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, data(32, 0), 0).status, VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(disk_.discards, 0);
}

TEST_F(BlockDeviceTest, ThatIsReadOnlyIsNotWritten) {
  remake({});
  EXPECT_NE(device_->features() & bit(VIRTIO_BLK_F_RO), 0u);
  EXPECT_EQ(ask(VIRTIO_BLK_T_OUT, 0, data(512, 'w'), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_DISCARD, 0, range(0, 8), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, range(0, 8), 0).status, VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(ask(VIRTIO_BLK_T_FLUSH, 0, {}, 0).status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(disk_.writes + disk_.discards, 0);
}

TEST_F(BlockDeviceTest, WritesDurablyForDriversThatDoNotFlush) {
  const auto flushes_of_a_write = [this] {
    const int before = disk_.flushes;
    EXPECT_EQ(ask(VIRTIO_BLK_T_OUT, 0, data(512, 'w'), 0).status, VIRTIO_BLK_S_OK);
    return disk_.flushes - before;
  };
  EXPECT_EQ(flushes_of_a_write(), 1) << "nothing is agreed on";
  device_->set_features(bit(VIRTIO_BLK_F_FLUSH) | bit(VIRTIO_BLK_F_CONFIG_WCE));
  EXPECT_EQ(flushes_of_a_write(), 0);
  const std::byte off{0};
  EXPECT_TRUE(device_->set_config(32, std::span(&off, 1), false));
  EXPECT_EQ(device_->config()[32], off);
  EXPECT_EQ(flushes_of_a_write(), 1) << "the driver has switched the cache off";
  remake({.writable = true, .writethrough = true});
  device_->set_features(bit(VIRTIO_BLK_F_FLUSH) | bit(VIRTIO_BLK_F_CONFIG_WCE));
  const std::byte on{1};
  EXPECT_TRUE(device_->set_config(32, std::span(&on, 1), false));
  EXPECT_EQ(flushes_of_a_write(), 1) << "the export says so";
}

TEST_F(BlockDeviceTest, HasAConfigurationOfWhichOnlyTheCacheCanBeChanged) {
  const auto config = device_->config();
  EXPECT_EQ(load_le<uint64_t>(config.data()), kLength / 512);
  EXPECT_EQ(load_le<uint32_t>(config.data() + 20), 512u);
  EXPECT_EQ(load_le<uint16_t>(config.data() + 34), 2u);
  const std::array<std::byte, 60> all{};
  EXPECT_FALSE(device_->set_config(0, std::span(all).first(8), false));
  EXPECT_FALSE(device_->set_config(31, std::span(all).first(2), false));
  EXPECT_TRUE(device_->set_config(0, all, true)) << "as a migration brings it";
  EXPECT_EQ(load_le<uint64_t>(device_->config().data()), kLength / 512);
}

TEST_F(BlockDeviceTest, NeedsAHeaderAndAStatus) {
  std::array<std::byte, 32> memory{};
  Chain chain;
  chain.readable.append(memory.data(), 15);
  chain.writable.append(memory.data() + 16, 1);
  EXPECT_FALSE(BlockDevice::check(chain));
  chain.readable.append(memory.data() + 15, 1);
  EXPECT_TRUE(BlockDevice::check(chain));
  chain.writable.clear();
  EXPECT_FALSE(BlockDevice::check(chain));
}

}  // namespace
}  // namespace cairn::vhost_user
