// A node as a file. How it grows is tested with real files, end to end.
#include "exports/fuse/exported_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "tests/exports/fuse/fuse_test.h"

namespace cairn::fuse {
namespace {

class ExportedFileTest : public FuseTest {
 protected:
  Result<uint64_t> write(uint64_t offset, std::size_t length) {
    std::vector<std::byte> data(length, std::byte{7});
    return run(file_->write(offset, io::IoVector(data.data(), data.size())));
  }
  int set(fuse_setattr_in wanted) {
    const Result<void> result = run(file_->set_attributes(wanted));
    return result ? 0 : result.error().code();
  }
  int allocate(uint64_t offset, uint64_t length, uint32_t mode) {
    const Result<void> result = run(file_->allocate(offset, length, mode));
    return result ? 0 : result.error().code();
  }
};

TEST_F(ExportedFileTest, IsAsLongAsTheNodeAndItsOwners) {
  const fuse_attr attributes = make_file({.writable = true}).attributes();
  EXPECT_EQ(attributes.size, kLength);
  EXPECT_EQ(attributes.mode, uint32_t{S_IFREG | S_IRUSR | S_IWUSR});
  EXPECT_EQ(attributes.uid, getuid());
  EXPECT_EQ(attributes.nlink, 1u);
  EXPECT_EQ(make_file({}).attributes().mode, uint32_t{S_IFREG | S_IRUSR});
}

TEST_F(ExportedFileTest, IsReadToItsEnd) {
  make_file({});
  EXPECT_EQ(file_->readable(0, 100), 100u);
  EXPECT_EQ(file_->readable(kLength - 10, 100), 10u);
  EXPECT_EQ(file_->readable(kLength, 100), 0u);
  EXPECT_EQ(file_->readable(UINT64_MAX, 100), 0u);
}

TEST_F(ExportedFileTest, IsWrittenToItsEnd) {
  make_file({.writable = true});
  EXPECT_EQ(*write(kLength - 512, 1024), 512u);
  EXPECT_EQ(disk_.bytes[kLength - 1], std::byte{7});
  EXPECT_EQ(*write(kLength, 512), 0u);
  EXPECT_EQ(*write(100, 3), 3u);
  EXPECT_EQ(disk_.bytes[102], std::byte{7});
}

TEST_F(ExportedFileTest, RefusesChangesThatItWasNotMadeFor) {
  make_file({});
  EXPECT_EQ(write(0, 512).error().code(), EACCES);
  EXPECT_EQ(set({.valid = FATTR_SIZE, .size = 512}), EACCES);
  EXPECT_EQ(allocate(0, 512, FALLOC_FL_ZERO_RANGE), EACCES);
  EXPECT_EQ(set({.valid = FATTR_MODE, .mode = 0444}), EPERM);
  EXPECT_EQ(set({.valid = FATTR_UID, .uid = 1000}), EPERM);
  EXPECT_EQ(set({.valid = FATTR_ATIME}), ENOTSUP);
  make_file({.allow_other = true});
  EXPECT_EQ(set({.valid = FATTR_MODE, .mode = 0644}), EROFS);
  EXPECT_EQ(set({.valid = FATTR_MODE, .mode = S_IFREG | 0444}), 0);
  EXPECT_EQ(file_->attributes().mode, uint32_t{S_IFREG | 0444});
  EXPECT_EQ(set({.valid = FATTR_UID | FATTR_GID, .uid = 1000, .gid = 100}), 0);
  EXPECT_EQ(file_->attributes().uid, 1000u);
  EXPECT_EQ(file_->attributes().gid, 100u);
}

TEST_F(ExportedFileTest, PassesErrorsOn) {
  make_file({.writable = true});
  disk_.write_error = ENOSPC;
  EXPECT_EQ(write(0, 512).error().code(), ENOSPC);
  disk_.write_error = 0;
  // The node can not be resized.
  EXPECT_EQ(set({.valid = FATTR_SIZE, .size = 2 * kLength}), ENOTSUP);
  EXPECT_FALSE(root_->permissions().used.has(block::PermissionSet::kResize));
}

TEST_F(ExportedFileTest, PunchesHolesAndZeroesRanges) {
  make_file({.writable = true});
  ASSERT_TRUE(write(0, 65536));
  EXPECT_EQ(allocate(4096, 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), 0);
  EXPECT_TRUE(disk_.last_zero.may_unmap);
  EXPECT_EQ(disk_.bytes[4096], std::byte{0});
  EXPECT_EQ(disk_.bytes[8192], std::byte{7});
  EXPECT_EQ(allocate(8192, 4096, FALLOC_FL_ZERO_RANGE), 0);
  EXPECT_FALSE(disk_.last_zero.may_unmap);
  EXPECT_EQ(disk_.bytes[8192], std::byte{0});
  // What lies behind the end reads as zeroes already.
  EXPECT_EQ(allocate(kLength, 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), 0);
  EXPECT_EQ(allocate(kLength, 4096, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE), 0);
  EXPECT_EQ(allocate(0, 4096, 0), ENOTSUP);
  EXPECT_EQ(allocate(0, 4096, FALLOC_FL_KEEP_SIZE), ENOTSUP);
  EXPECT_EQ(allocate(0, 4096, FALLOC_FL_COLLAPSE_RANGE), ENOTSUP);
}

TEST_F(ExportedFileTest, FindsDataAndHoles) {
  make_file({.writable = true});
  ASSERT_TRUE(write(131072, 65536));
  EXPECT_EQ(*run(file_->seek(0, SEEK_HOLE)), 0u);
  EXPECT_EQ(*run(file_->seek(0, SEEK_DATA)), 131072u);
  EXPECT_EQ(*run(file_->seek(140000, SEEK_DATA)), 140000u);
  EXPECT_EQ(*run(file_->seek(140000, SEEK_HOLE)), 196608u);
  EXPECT_EQ(run(file_->seek(196608, SEEK_DATA)).error().code(), ENXIO);
  EXPECT_EQ(run(file_->seek(kLength, SEEK_HOLE)).error().code(), ENXIO);
  EXPECT_EQ(run(file_->seek(0, SEEK_CUR)).error().code(), EINVAL);
  ASSERT_TRUE(write(kLength - 65536, 65536));
  EXPECT_EQ(*run(file_->seek(kLength - 512, SEEK_HOLE)), kLength);
}

}  // namespace
}  // namespace cairn::fuse
