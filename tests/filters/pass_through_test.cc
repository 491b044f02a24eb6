// Any stack of filters that change nothing gives the same bytes, status and errors as no filter,
// while filters are put in and taken out.
//
// The same requests go to two graphs: the model, a raw node over a format over a file, and one with
// up to eight filters above the format and some below it. A round's requests are on their way
// together, to places of their own, while a filter comes or goes; the model carries them out one by
// one.

#include "io/task_group.h"
#include "io/timer.h"
#include "tests/filters/filter_test.h"
#include "tests/support/random.h"

namespace cairn::filters {
namespace {

constexpr uint64_t kClusters = 24;
constexpr uint64_t kStackLength = kClusters * kCluster;
constexpr std::size_t kDeepest = 8;

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

class PassThroughTest : public FilterTest, public ::testing::WithParamInterface<uint64_t> {
 protected:
  PassThroughTest() : FilterTest(GetParam()), random_(GetParam()) {}

  void SetUp() override {
    throttles_["free"] = std::make_shared<io::Throttle>();
    throttles_["limited"] = std::make_shared<io::Throttle>();
    throttles_["limited"]->set({.requests = {.total = {.average = 20000}}});
    overlay_ = !without_format_ && random_.chance(50);
    const bool format = overlay_ || (!without_format_ && random_.chance(50));
    for (const std::string side : {"model", "test"}) {
      const std::string name = side + ".img";
      if (format) {
        create_image(name, kStackLength);
      } else {
        world_.create(name, kStackLength);
      }
      ASSERT_EQ(add(file(side + "-file", name)), "");
      if (overlay_) {
        create_image(side + "-base.img", kStackLength);
        ASSERT_EQ(add(file(side + "-base-file", side + "-base.img")), "");
        ASSERT_EQ(add(qcow2(side + "-base", side + "-base-file")), "");
        block::Edge& base = attach(side + "-base");
        ASSERT_EQ(write(base, 9, 0, kStackLength / 2), "");
        detach(base);
      }
      ASSERT_EQ(add(format_over(side, side + "-file", format)), "");
      ASSERT_EQ(add(raw(side, side + "-format")), "");
    }
    format_ = format;
    model_ = &attach("model", kOwner);
    test_ = &attach("test", kOwner);
  }

  [[nodiscard]] schema::BlockdevOptions format_over(const std::string& side, std::string below,
                                                    bool format) const {
    if (!format) {
      return raw(side + "-format", std::move(below));
    }
    return qcow2(side + "-format", std::move(below),
                 overlay_ ? std::optional(side + "-base") : std::nullopt);
  }

  // Puts a filter below the test's top, or below its format, or takes one out.
  io::Task<void> change_filters() {
    const bool above = random_.chance(70);
    std::vector<std::string>& stack = above ? above_ : below_;
    const std::size_t most = above ? kDeepest : 2;
    const bool put = stack.size() < most && (stack.empty() || random_.chance(60));
    const std::string bottom = above ? "test-format" : "test-file";
    const std::size_t at = random_.below(put ? stack.size() + 1 : stack.size());
    const std::string under = put ? (at < stack.size() ? stack[at] : bottom)
                                  : (at + 1 < stack.size() ? stack[at + 1] : bottom);
    std::string removed;
    std::string target = under;
    if (put) {
      target = "filter" + std::to_string(++made_);
      const auto options = throttle(target, under, random_.chance(70) ? "free" : "limited");
      auto added = co_await graph_.add_monitor_node(options);
      EXPECT_TRUE(added.has_value());
      stack.insert(stack.begin() + static_cast<std::ptrdiff_t>(at), target);
    } else {
      removed = stack[at];
      stack.erase(stack.begin() + static_cast<std::ptrdiff_t>(at));
    }
    std::vector<schema::BlockdevOptions> wanted;
    wanted.push_back(parent_of(stack, at, above, target));
    auto reopened = co_await reopen_alone(std::move(wanted));
    EXPECT_TRUE(reopened.has_value()) << reopened.error().message();
    if (!removed.empty()) {
      auto gone = co_await graph_.remove_monitor_node(removed);
      EXPECT_TRUE(gone.has_value()) << gone.error().message();
    }
  }
  // The options of what stands on place `at` of a stack, with `target` as its file.
  schema::BlockdevOptions parent_of(const std::vector<std::string>& stack, std::size_t at,
                                    bool above, const std::string& target) {
    if (at == 0) {
      return above ? raw("test", target) : format_over("test", target, format_);
    }
    const auto& node = graph_.find(stack[at - 1]);
    const auto& now = std::get<schema::BlockdevOptionsThrottle>(node->opened_with().branch);
    return throttle(stack[at - 1], target, now.throttle_group);
  }

  std::vector<PassedRequest> make_requests() {
    std::vector<PassedRequest> requests;
    // Places of their own: each cluster is touched by one request.
    for (uint64_t first = 0; first < kClusters;) {
      const uint64_t count = std::min(random_.between(1, 3), kClusters - first);
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
    ASSERT_TRUE(model == test);
    ASSERT_EQ(status_of(*model_), status_of(*test_));
  }

  testing::Random random_;
  bool without_format_ = false;
  bool overlay_ = false;
  bool format_ = false;
  block::Edge* model_ = nullptr;
  block::Edge* test_ = nullptr;
  std::vector<std::string> above_;  // the topmost first
  std::vector<std::string> below_;
  uint64_t made_ = 0;
  testing::WriteNumber written_ = 100;
};

TEST_P(PassThroughTest, ShowsTheSameAsNoFilter) {
  world_.set_delays(std::chrono::microseconds(100));
  for (int i = 0; i < 25; ++i) {
    const std::vector<PassedRequest> requests = make_requests();
    std::vector<PassedAnswer> answers(requests.size());
    run(round(requests, answers));
    for (std::size_t n = 0; n < requests.size(); ++n) {
      PassedAnswer expected;
      run(carry_out(*model_, requests[n], expected));
      ASSERT_EQ(answers[n].error, expected.error) << "seed " << GetParam() << ", round " << i;
      ASSERT_TRUE(answers[n].data == expected.data) << "seed " << GetParam() << ", round " << i;
    }
    expect_same_content();
    if (HasFatalFailure()) {
      FAIL() << "seed " << GetParam() << ", round " << i;
    }
  }
}

// Without a format, whose place for something depends on the order of requests.
class PassThroughErrors : public PassThroughTest {
 protected:
  PassThroughErrors() { without_format_ = true; }
};

TEST_P(PassThroughErrors, AreHandedUp) {
  for (int i = 0; i < 6; ++i) {
    run(change_filters());
  }
  const uint64_t bad = kCluster * random_.below(kClusters);
  for (const std::string side : {"model.img", "test.img"}) {
    world_.add_fault({.file = side,
                      .offset = bad,
                      .length = kCluster,
                      .times = UINT64_MAX,
                      .error = random_.chance(50) ? EIO : ENOSPC});
  }
  for (const PassedRequest& request : make_requests()) {
    PassedAnswer expected;
    PassedAnswer answer;
    run(carry_out(*model_, request, expected));
    run(carry_out(*test_, request, answer));
    ASSERT_EQ(answer.error != 0, expected.error != 0) << "seed " << GetParam();
  }
  world_.clear_faults();
}

TEST_P(PassThroughTest, ResizesAsWithoutFilters) {
  for (int i = 0; i < 6; ++i) {
    run(change_filters());
  }
  for (const uint64_t length : {kStackLength + kCluster, kStackLength / 2, kStackLength}) {
    const auto model = run(model_->resize(length));
    const auto test = run(test_->resize(length));
    ASSERT_EQ(model.has_value(), test.has_value());
    ASSERT_EQ(model_->length(), test_->length());
  }
  expect_same_content();
}

INSTANTIATE_TEST_SUITE_P(Seeds, PassThroughTest, ::testing::Range<uint64_t>(1, 17));
INSTANTIATE_TEST_SUITE_P(Seeds, PassThroughErrors, ::testing::Range<uint64_t>(1, 13));

}  // namespace
}  // namespace cairn::filters
