// What an Error carries, and how it gains context on its way up.
#include "base/result.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace cairn {
namespace {

Result<int> failing() { return fail(ENOSPC, "{} is full", "disk"); }

TEST(ResultTest, AFailureAlwaysHasAnErrno) {
  EXPECT_EQ(Error(0, "nothing").code(), EIO);
  EXPECT_EQ(Error(-EINVAL, "negative").code(), EIO);
  EXPECT_EQ(Error::from_errno(0).code(), EIO);
  EXPECT_EQ(failing().error().code(), ENOSPC);
}

TEST(ResultTest, FormatsItsMessage) {
  EXPECT_EQ(failing().error().message(), "disk is full");
  const Result<> with_errno = fail_errno(ENOENT, "Could not open '{}'", "x");
  EXPECT_EQ(with_errno.error().message(), "Could not open 'x': No such file or directory");
  EXPECT_EQ(Error::from_errno(EPERM).message(), "Operation not permitted");
}

TEST(ResultTest, GainsContextGoingUpAndKeepsTheRest) {
  Result<int> inner = std::unexpected(Error(EBUSY, "locked", ErrorClass::kDeviceNotFound)
                                          .with_hint("Is another process using it?"));
  const Result<> outer = pass(inner, "Node 'd': ");
  EXPECT_EQ(outer.error().message(), "Node 'd': locked");
  EXPECT_EQ(outer.error().code(), EBUSY);
  EXPECT_EQ(outer.error().error_class(), ErrorClass::kDeviceNotFound);
  EXPECT_EQ(outer.error().hint(), "Is another process using it?");
}

TEST(ResultDeathTest, ASuccessIsNotPassedAsAnError) {
  Result<int> fine = 7;
  EXPECT_DEATH(static_cast<void>(pass(fine)), "");
  EXPECT_DEATH(static_cast<void>(pass(fine, "Node 'd': ")), "");
}

TEST(ResultTest, CopiesAreIndependent) {
  const Error original(EINVAL, "bad");
  const Error changed = Error(original).prefix("x: ").with_class(ErrorClass::kDeviceNotActive);
  EXPECT_EQ(original.message(), "bad");
  EXPECT_EQ(original.error_class(), ErrorClass::kGenericError);
  EXPECT_EQ(changed.message(), "x: bad");
}

}  // namespace
}  // namespace cairn
