// Which requests rules of blkdebug let fail, and when.
#include "filters/blkdebug/rules.h"

#include <gtest/gtest.h>

namespace cairn::filters::blkdebug {
namespace {

using block::FaultPoint;

int code_of(Rules& rules, RequestKind kind, uint64_t offset = 0, uint64_t length = 512) {
  const auto failure = rules.failure_of(kind, offset, length);
  return failure ? failure->error : 0;
}

TEST(BlkdebugRules, HoldFromTheirEventOnUntilAnotherOneHasRules) {
  Rules rules;
  rules.add(FaultPoint::kReadAio, ErrorRule{.error = EIO});
  rules.add(FaultPoint::kWriteAio, ErrorRule{.error = ENOSPC});
  EXPECT_EQ(code_of(rules, RequestKind::kRead), 0);
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), EIO);
  EXPECT_EQ(code_of(rules, RequestKind::kFlush, 0, 0), EIO);
  rules.reached(FaultPoint::kL2Load);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), EIO);
  rules.reached(FaultPoint::kWriteAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), ENOSPC);
}

TEST(BlkdebugRules, OfOneEventTheFirstCountsAndOneThatHoldsOnceIsGoneForever) {
  Rules rules;
  rules.add(FaultPoint::kReadAio, ErrorRule{.error = EIO, .once = true});
  rules.add(FaultPoint::kReadAio, ErrorRule{.error = ENOSPC, .once = true});
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), EIO);
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), ENOSPC);
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), 0);
}

TEST(BlkdebugRules, MeanTheRequestsAndTheSectorThatTheySay) {
  Rules rules;
  rules.add(FaultPoint::kNone, ErrorRule{.kind = RequestKind::kWrite, .sector = 2});
  rules.reached(FaultPoint::kNone);
  EXPECT_EQ(code_of(rules, RequestKind::kRead, 0, 4096), 0);
  EXPECT_EQ(code_of(rules, RequestKind::kWrite, 0, 1024), 0);
  EXPECT_EQ(code_of(rules, RequestKind::kWrite, 0, 1025), EIO);
  EXPECT_EQ(code_of(rules, RequestKind::kWrite, 1025, 10), 0)
      << "a sector begins at its first byte";
  EXPECT_EQ(code_of(rules, RequestKind::kFlush, 0, 0), 0);
}

TEST(BlkdebugRules, LeaveQuestionsForStatusAloneUnlessTheyAreMeant) {
  Rules rules;
  rules.add(FaultPoint::kNone, ErrorRule{});
  rules.reached(FaultPoint::kNone);
  EXPECT_EQ(code_of(rules, RequestKind::kDiscard), EIO);
  EXPECT_EQ(code_of(rules, RequestKind::kBlockStatus), 0);
  rules.add(FaultPoint::kReadAio, ErrorRule{.kind = RequestKind::kBlockStatus});
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kBlockStatus), EIO);
}

TEST(BlkdebugRules, AnErrorOfZeroEndsWhatHeldBefore) {
  Rules rules;
  rules.add(FaultPoint::kNone, ErrorRule{});
  rules.add(FaultPoint::kReadAio, ErrorRule{.error = 0});
  rules.reached(FaultPoint::kNone);
  EXPECT_EQ(code_of(rules, RequestKind::kWrite), EIO);
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kWrite), 0);
}

TEST(BlkdebugRules, LookAtTheStateBeforeTheirEvent) {
  Rules rules;
  rules.add(FaultPoint::kReadAio, StateRule{.state = 1, .new_state = 2});
  rules.add(FaultPoint::kReadAio, StateRule{.state = 2, .new_state = 3});
  rules.add(FaultPoint::kReadAio, StateRule{.new_state = 9});
  rules.add(FaultPoint::kReadAio, ErrorRule{.state = 2, .error = EIO});
  rules.add(FaultPoint::kReadAio, ErrorRule{.state = 3, .error = ENOSPC});
  EXPECT_EQ(rules.state(), 1);
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), 0);
  EXPECT_EQ(rules.state(), 2) << "the first rule that applies decides";
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), EIO);
  rules.reached(FaultPoint::kReadAio);
  EXPECT_EQ(code_of(rules, RequestKind::kRead), ENOSPC);
  EXPECT_EQ(rules.state(), 9);
}

}  // namespace
}  // namespace cairn::filters::blkdebug
