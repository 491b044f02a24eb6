// Any stack of filters that change nothing gives the same bytes, status and errors as no filter,
// while filters are put in and taken out.
//
// The same requests go to two graphs: the model, a raw node over a format over a file, and one with
// up to eight filters above the format and some below it. A round's requests are on their way
// together, to places of their own, while a filter comes or goes; the model carries them out one by
// one.

#include <tuple>

#include "io/task_group.h"
#include "io/timer.h"
#include "tests/filters/filter_stack_test.h"

namespace cairn::filters {
namespace {

struct PassedRequest {
  enum class Kind { kRead, kWrite, kFua, kZero, kZeroUnmap, kDiscard, kFlush };
  Kind kind;
  uint64_t offset;
  uint64_t length;
  testing::WriteNumber number;
};

struct PassedAnswer {
  int error = 0;
  std::vector<std::byte> data;
  bool operator==(const PassedAnswer&) const = default;
};

io::Task<void> carry_out(block::Edge& edge, PassedRequest request, PassedAnswer& answer) {
  using Kind = PassedRequest::Kind;
  std::vector<std::byte> data(request.length);
  Result<void> result;
  switch (request.kind) {
    case Kind::kRead:
      result = co_await edge.read(request.offset, data.data(), data.size());
      break;
    case Kind::kWrite:
    case Kind::kFua: {
      testing::fill_pattern(request.number, request.offset, data);
      const block::WriteFlags flags{.fua = request.kind == Kind::kFua};
      result = co_await edge.write(request.offset, data.data(), data.size(), flags);
      break;
    }
    case Kind::kZero:
    case Kind::kZeroUnmap: {
      const block::ZeroFlags flags{.may_unmap = request.kind == Kind::kZeroUnmap};
      result = co_await edge.write_zeroes(request.offset, request.length, flags);
      break;
    }
    case Kind::kDiscard:
      result = co_await edge.discard(request.offset, request.length);
      break;
    case Kind::kFlush:
      result = co_await edge.flush();
      break;
  }
  answer.error = result ? 0 : result.error().code();
  if (request.kind == Kind::kRead && result) {
    answer.data = std::move(data);
  }
}

using Stack = std::tuple<StackFormat, uint64_t>;

std::string name_of(const ::testing::TestParamInfo<Stack>& stack) {
  static constexpr const char* kNames[] = {"Raw", "Qcow2", "Qcow2Overlay", "Luks", "Vmdk"};
  return kNames[static_cast<int>(std::get<0>(stack.param))] +
         std::to_string(std::get<1>(stack.param));
}

class PassThroughTest : public FilterStackTest, public ::testing::WithParamInterface<Stack> {
 protected:
  PassThroughTest() : FilterStackTest(std::get<0>(GetParam()), std::get<1>(GetParam())) {}

  std::vector<PassedRequest> make_requests() {
    std::vector<PassedRequest> requests;
    // Places of their own: each cluster is touched by one request.
    for (uint64_t first = 0; first < kStackClusters;) {
      const uint64_t count = std::min(random_.between(1, 3), kStackClusters - first);
      const uint64_t begin = first * kCluster + (random_.chance(50) ? 512 * random_.below(64) : 0);
      uint64_t end =
          (first + count) * kCluster - (random_.chance(50) ? 512 * random_.below(63) : 0);
      if (random_.chance(5)) {
        end = kStackLength + kCluster;  // beyond the end
      }
      using Kind = PassedRequest::Kind;
      const Kind kind =
          random_.pick({Kind::kRead, Kind::kRead, Kind::kWrite, Kind::kWrite, Kind::kFua,
                        Kind::kZero, Kind::kZeroUnmap, Kind::kDiscard, Kind::kFlush});
      requests.push_back({kind, begin, end - begin, ++written_});
      first += count;
    }
    return requests;
  }

  io::Task<void> round(const std::vector<PassedRequest>& requests,
                       std::vector<PassedAnswer>& answers) {
    io::TaskGroup group;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      group.spawn(carry_out(*test_, requests[i], answers[i]));
    }
    co_await io::sleep_for(std::chrono::microseconds(random_.below(300)));
    co_await change_filters();
    co_await group.join();
  }

  // A round on the disk under test, and the same requests, one by one, on the model.
  void compare_round() {
    const std::vector<PassedRequest> requests = make_requests();
    std::vector<PassedAnswer> answers(requests.size());
    run(round(requests, answers));
    for (std::size_t n = 0; n < requests.size(); ++n) {
      PassedAnswer expected;
      run(carry_out(*model_, requests[n], expected));
      ASSERT_EQ(answers[n].error, expected.error) << stack_text();
      ASSERT_TRUE(answers[n].data == expected.data) << stack_text();
    }
  }

  std::string status_of(block::Edge& edge) {
    std::string text;
    for (uint64_t offset = 0; offset < kStackLength; offset += 4096) {
      const auto status = run(edge.status(offset, 4096));
      text += !status ? '?'
                      : static_cast<char>('0' + (status->data ? 1 : 0) + (status->zero ? 2 : 0) +
                                          (status->allocated ? 4 : 0));
    }
    return text;
  }
  void expect_same_content() {
    PassedAnswer model;
    PassedAnswer test;
    const PassedRequest all{PassedRequest::Kind::kRead, 0, kStackLength, 0};
    run(carry_out(*model_, all, model));
    run(carry_out(*test_, all, test));
    ASSERT_TRUE(model == test) << stack_text();
    ASSERT_EQ(status_of(*model_), status_of(*test_)) << stack_text();
  }

  testing::WriteNumber written_ = 100;
};

TEST_P(PassThroughTest, ShowsTheSameAsNoFilter) {
  world_.set_delays(std::chrono::microseconds(100));
  std::size_t deepest = 0;
  for (int i = 0; i < 30; ++i) {
    compare_round();
    if (!HasFatalFailure()) {
      expect_same_content();
    }
    if (HasFatalFailure()) {
      FAIL() << "round " << i;
    }
    deepest = std::max(deepest, depth());
  }
  EXPECT_GE(deepest, 5U);
}

// Without a format whose place for something depends on the order of requests.
class PassThroughErrors : public PassThroughTest {};

TEST_P(PassThroughErrors, AreHandedUp) {
  world_.set_delays(std::chrono::microseconds(100));
  for (int i = 0; i < 10; ++i) {
    run(change_filters());
  }
  const uint64_t bad = kCluster * random_.below(kStackClusters);
  const int error = random_.chance(50) ? EIO : ENOSPC;
  for (const std::string side : {"model.img", "test.img"}) {
    world_.add_fault({.file = side,
                      .offset = bad + (world_.find(side)->disk.size() - kStackLength),
                      .length = kCluster,
                      .times = UINT64_MAX,
                      .error = error});
  }
  for (int i = 0; i < 10; ++i) {
    compare_round();
    if (HasFatalFailure()) {
      FAIL() << "round " << i;
    }
  }
  EXPECT_GT(world_.faults(), 0U);
  world_.clear_faults();
}

TEST_P(PassThroughTest, ResizesAsWithoutFilters) {
  leave_out_copy_before_write();
  for (int i = 0; i < 10; ++i) {
    run(change_filters());
  }
  for (const uint64_t length : {kStackLength + kCluster, kStackLength / 2, kStackLength}) {
    const auto model = run(model_->resize(length));
    const auto test = run(test_->resize(length));
    ASSERT_EQ(model ? 0 : model.error().code(), test ? 0 : test.error().code()) << stack_text();
    ASSERT_EQ(model_->length(), test_->length());
  }
  expect_same_content();
}

INSTANTIATE_TEST_SUITE_P(
    Stacks, PassThroughTest,
    ::testing::Combine(::testing::Values(StackFormat::kRaw, StackFormat::kQcow2,
                                         StackFormat::kQcow2Overlay, StackFormat::kLuks,
                                         StackFormat::kVmdk),
                       ::testing::Range<uint64_t>(1, 7)),
    name_of);
INSTANTIATE_TEST_SUITE_P(Stacks, PassThroughErrors,
                         ::testing::Combine(::testing::Values(StackFormat::kRaw,
                                                              StackFormat::kLuks),
                                            ::testing::Range<uint64_t>(1, 7)),
                         name_of);

}  // namespace
}  // namespace cairn::filters
