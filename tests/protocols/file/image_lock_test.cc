// The locks themselves, between two descriptors of one file.
#include "protocols/file/image_lock.h"

#include <fcntl.h>

#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "io/fd.h"

namespace cairn::file {
namespace {

using block::PermissionSet;

// Two descriptors of one file, as two programs have them.
class ImageLockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!image_locks_supported()) {
      GTEST_SKIP() << "the kernel has no locks of open file descriptions";
    }
    path_ = ::testing::TempDir() + "cairn-lock-" + std::to_string(getpid());
    std::ofstream(path_).close();
    one_ = io::Fd(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    other_ = io::Fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(one_.valid() && other_.valid());
  }
  void TearDown() override { unlink(path_.c_str()); }

  // Whether a descriptor of nobody sees a lock on `byte`.
  bool byte_locked(off_t byte) {
    const io::Fd fd(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return fcntl(fd.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
  }

  std::string path_;
  io::Fd one_;
  io::Fd other_;
};

constexpr PermissionSet kReadAndWrite = PermissionSet::kConsistentRead | PermissionSet::kWrite;

TEST_F(ImageLockTest, UsesTheBytesOfThePermissions) {
  ImageLock lock;
  ASSERT_TRUE(lock.take(one_.get(), {kReadAndWrite, PermissionSet::kResize}));
  for (const off_t byte : {100, 101, 203}) {
    EXPECT_TRUE(byte_locked(byte)) << byte;
  }
  for (const off_t byte : {99, 102, 103, 200, 201, 202, 204}) {
    EXPECT_FALSE(byte_locked(byte)) << byte;
  }
  lock.keep(one_.get(), {});
  EXPECT_FALSE(byte_locked(100));
  EXPECT_FALSE(byte_locked(203));
}

TEST_F(ImageLockTest, AWriterThatDoesNotShareKeepsWritersOut) {
  ImageLock writer;
  ASSERT_TRUE(writer.take(one_.get(), {kReadAndWrite, PermissionSet::kWrite}));
  ImageLock second;
  const auto refused = second.take(other_.get(), {kReadAndWrite, {}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Failed to get \"write\" lock");
  EXPECT_EQ(second.held(), LockSet{});
  // What failed left nothing behind.
  ImageLock third;
  EXPECT_TRUE(third.take(other_.get(), {PermissionSet::kConsistentRead, {}}));
}

TEST_F(ImageLockTest, AReaderThatDoesNotShareWritingIsRefusedBesideAWriter) {
  ImageLock writer;
  ASSERT_TRUE(writer.take(one_.get(), {kReadAndWrite, {}}));
  ImageLock reader;
  const auto refused =
      reader.take(other_.get(), {PermissionSet::kConsistentRead, PermissionSet::kWrite});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Failed to get shared \"write\" lock");
  EXPECT_EQ(refused.error().code(), EAGAIN);
}

TEST_F(ImageLockTest, AFailureKeepsWhatWasHeldBefore) {
  ImageLock writer;
  ASSERT_TRUE(writer.take(one_.get(), {PermissionSet::kResize, {}}));
  ImageLock reader;
  ASSERT_TRUE(reader.take(other_.get(), {PermissionSet::kConsistentRead, {}}));
  EXPECT_FALSE(reader.take(other_.get(), {kReadAndWrite, PermissionSet::kResize}));
  EXPECT_EQ(reader.held(), (LockSet{PermissionSet::kConsistentRead, {}}));
  EXPECT_FALSE(byte_locked(101));
}

}  // namespace
}  // namespace cairn::file
