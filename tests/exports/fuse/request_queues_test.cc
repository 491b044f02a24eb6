// Requests through io_uring, whose part, and the kernel's, a ring plays that only hands memory
// about.
#include "exports/fuse/request_queues.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "io/call_on.h"
#include "io/fd.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/exports/fuse/fuse_test.h"

namespace cairn::fuse {
namespace {

constexpr unsigned kQueues = 3;

struct RingAnswer {
  fuse_out_header header{};
  std::vector<std::byte> body;
};

// What the kernel knows of its places. It outlives the ring.
struct RingState {
  struct Offered {
    RingHeader* header = nullptr;
    std::span<std::byte> payload;
    uint16_t queue = 0;
  };
  io::Fd event{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::map<uint64_t, Offered> places;      // by tag
  std::map<uint64_t, uint64_t> under_way;  // tag by the number of the commit
  std::deque<uint64_t> available;          // tags
  struct Added {
    io::CommandRing::Command command;
    RingCommandBody body;
  };
  std::vector<Added> added;  // since the last submit()
  std::deque<io::CommandRing::Completion> completions;
  std::vector<RingAnswer> answers;
  int submissions = 0;
  bool closed = false;

  void complete(io::CommandRing::Completion completion) {
    completions.push_back(completion);
    const uint64_t one = 1;
    EXPECT_EQ(::write(event.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }
};

class PretendedRing final : public io::CommandRing {
 public:
  explicit PretendedRing(RingState& state) : state_(state) {}
  ~PretendedRing() override { state_.closed = true; }

  [[nodiscard]] int descriptor() const override { return state_.event.get(); }
  void add(const Command& command) override {
    RingCommandBody body{};
    ASSERT_EQ(command.body.size(), sizeof body);
    std::memcpy(&body, command.body.data(), sizeof body);
    state_.added.push_back({.command = command, .body = body});
  }

  void submit() override {
    state_.submissions += state_.added.empty() ? 0 : 1;
    for (const auto& [command, body] : std::exchange(state_.added, {})) {
      if (command.operation == static_cast<uint32_t>(RingCommand::kRegister)) {
        const auto* memory = static_cast<const iovec*>(command.address);
        ASSERT_EQ(command.length, 2u);
        ASSERT_EQ(memory[0].iov_len, sizeof(RingHeader));
        ASSERT_GE(memory[1].iov_len, kLargestWrite);
        state_.places[command.tag] = {
            .header = static_cast<RingHeader*>(memory[0].iov_base),
            .payload = {static_cast<std::byte*>(memory[1].iov_base), memory[1].iov_len},
            .queue = body.queue};
      } else {
        take_answer(command.tag, body);
      }
      state_.available.push_back(command.tag);
    }
  }

  [[nodiscard]] std::optional<Completion> take() override {
    uint64_t count = 0;
    static_cast<void>(::read(state_.event.get(), &count, sizeof count));
    if (state_.completions.empty()) {
      return std::nullopt;
    }
    const Completion first = state_.completions.front();
    state_.completions.pop_front();
    return first;
  }

 private:
  void take_answer(uint64_t tag, const RingCommandBody& body) {
    const RingState::Offered& place = state_.places.at(tag);
    ASSERT_EQ(state_.under_way.at(body.commit), tag);
    ASSERT_EQ(body.queue, place.queue);
    state_.under_way.erase(body.commit);
    RingAnswer answer;
    std::memcpy(&answer.header, place.header->header, sizeof answer.header);
    const auto payload = place.payload.first(place.header->entry.payload_size);
    answer.body.assign(payload.begin(), payload.end());
    EXPECT_EQ(answer.header.len, sizeof answer.header + answer.body.size());
    state_.answers.push_back(std::move(answer));
  }

  RingState& state_;
};

class RequestQueuesTest : public FuseTest {
 protected:
  void start(ExportedFile::Settings settings, Caching caching = Caching::kPageCache) {
    home_.emplace(*root_, *reactor_, false);
    requests_.emplace(make_file(settings), *home_, caching);
    auto made = RequestQueues::create(
        kQueues, *requests_, [this](unsigned entries) -> Result<std::unique_ptr<io::CommandRing>> {
          entries_ = entries;
          return std::make_unique<PretendedRing>(kernel_);
        });
    ASSERT_TRUE(made) << made.error().message();
    queues_ = std::move(*made);
    tasks_.spawn(queues_->run(stop_.token()));
  }
  void TearDown() override {
    if (queues_ != nullptr) {
      stop_.cancel();
      run(tasks_.join());
      queues_.reset();
      EXPECT_TRUE(kernel_.closed);
    }
    FuseTest::TearDown();
  }

  // Puts a request into the place that has been available for longest.
  template <typename Arguments>
  void ask(uint64_t unique, uint32_t opcode, const Arguments& arguments,
           std::span<const std::byte> payload = {}) {
    ASSERT_FALSE(kernel_.available.empty());
    const uint64_t tag = kernel_.available.front();
    kernel_.available.pop_front();
    const RingState::Offered& place = kernel_.places.at(tag);
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + sizeof arguments + payload.size());
    header.opcode = opcode;
    header.unique = unique;
    std::memcpy(place.header->header, &header, sizeof header);
    std::memcpy(place.header->arguments, &arguments, sizeof arguments);
    std::ranges::copy(payload, place.payload.begin());
    place.header->entry.payload_size = static_cast<uint32_t>(payload.size());
    place.header->entry.commit = unique + 1000;
    kernel_.under_way[unique + 1000] = tag;
    kernel_.complete({.tag = tag, .result = 0});
  }
  void read(uint64_t unique, uint64_t offset, uint32_t size) {
    fuse_read_in in{};
    in.offset = offset;
    in.size = size;
    ask(unique, FUSE_READ, in);
  }
  // Runs until so many answers are there.
  void wait_for(std::size_t answers) {
    for (int turn = 0; turn < 10000 && kernel_.answers.size() < answers; ++turn) {
      run(rest());
    }
    ASSERT_EQ(kernel_.answers.size(), answers);
  }
  void settle() {
    for (int turn = 0; turn < 20; ++turn) {
      run(rest());
    }
  }
  static io::Task<void> rest() { (void)co_await io::sleep_for(std::chrono::microseconds(100)); }

  RingState kernel_;
  std::optional<exports::NodeAccess> home_;
  std::optional<FileRequests> requests_;
  std::unique_ptr<RequestQueues> queues_;
  io::CancelSource stop_;
  io::TaskGroup tasks_;
  unsigned entries_ = 0;
};

TEST_F(RequestQueuesTest, OffersPlacesToEveryQueue) {
  start({});
  settle();
  std::map<uint16_t, int> places;
  for (const auto& [tag, place] : kernel_.places) {
    ++places[place.queue];
  }
  EXPECT_EQ(places.size(), kQueues);
  EXPECT_EQ(places.at(0), places.at(kQueues - 1));
  EXPECT_EQ(kernel_.places.size(), entries_);
  EXPECT_EQ(kernel_.submissions, 1);
}

TEST_F(RequestQueuesTest, WritesAndReads) {
  start({.writable = true});
  settle();
  const std::vector<std::byte> data(100000, std::byte{9});
  fuse_write_in write{};
  write.offset = 5000;
  write.size = static_cast<uint32_t>(data.size());
  ask(1, FUSE_WRITE, write, data);
  wait_for(1);
  ASSERT_EQ(kernel_.answers[0].body.size(), sizeof(fuse_write_out));
  fuse_write_out written{};
  std::memcpy(&written, kernel_.answers[0].body.data(), sizeof written);
  EXPECT_EQ(written.size, data.size());
  read(2, 5000, 200000);
  wait_for(2);
  EXPECT_EQ(kernel_.answers[1].header.unique, 2u);
  ASSERT_EQ(kernel_.answers[1].body.size(), 200000u);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), kernel_.answers[1].body.begin()));
  EXPECT_EQ(kernel_.answers[1].body[data.size()], std::byte{0});
}

TEST_F(RequestQueuesTest, AnswersSeveralRequestsAtOnce) {
  start({});
  settle();
  const int before = kernel_.submissions;
  for (uint64_t i = 1; i <= 10; ++i) {
    read(i, i * 512, 512);
  }
  wait_for(10);
  EXPECT_EQ(kernel_.submissions, before + 1);
}

TEST_F(RequestQueuesTest, AnswersOtherRequestsWhileOneWaits) {
  start({});
  settle();
  disk_.open_gate.reset();
  read(1, 0, 4096);
  ask(2, FUSE_OPEN, fuse_open_in{});
  wait_for(1);
  EXPECT_EQ(kernel_.answers[0].header.unique, 2u);
  settle();
  EXPECT_EQ(kernel_.answers.size(), 1u);
  disk_.open_gate.set();
  wait_for(2);
  EXPECT_EQ(kernel_.answers[1].header.unique, 1u);
  EXPECT_EQ(kernel_.answers[1].body.size(), 4096u);
}

TEST_F(RequestQueuesTest, OpensTheFilePastTheCacheWhereItIsToldTo) {
  start({}, Caching::kNone);
  settle();
  ask(1, FUSE_OPEN, fuse_open_in{});
  wait_for(1);
  ASSERT_EQ(kernel_.answers[0].body.size(), sizeof(fuse_open_out));
  fuse_open_out opened{};
  std::memcpy(&opened, kernel_.answers[0].body.data(), sizeof opened);
  EXPECT_NE(opened.open_flags & FOPEN_DIRECT_IO, 0u);
}

TEST_F(RequestQueuesTest, AnswersWhatWasTakenBeforeItEnds) {
  start({});
  settle();
  disk_.open_gate.reset();
  read(1, 0, 4096);
  settle();
  stop_.cancel();
  settle();
  read(2, 0, 4096);  // comes too late
  settle();
  EXPECT_TRUE(kernel_.answers.empty());
  EXPECT_EQ(tasks_.running(), 1u);
  disk_.open_gate.set();
  run(tasks_.join());
  ASSERT_EQ(kernel_.answers.size(), 1u);
  EXPECT_EQ(kernel_.answers[0].header.unique, 1u);
}

TEST_F(RequestQueuesTest, EndsWhenTheKernelHasTakenAllPlacesBack) {
  start({});
  settle();
  for (const auto& [tag, place] : kernel_.places) {
    kernel_.complete({.tag = tag, .result = -ENOTCONN});
  }
  run(tasks_.join());
  EXPECT_TRUE(kernel_.answers.empty());
}

TEST_F(RequestQueuesTest, RefusesWhatNoKernelAsks) {
  start({.writable = true});
  settle();
  fuse_write_in write{};
  write.size = 4096;  // and no data
  ask(1, FUSE_WRITE, write);
  read(2, 0, UINT32_MAX);
  ask(3, FUSE_MKDIR, fuse_mkdir_in{});
  wait_for(3);
  EXPECT_EQ(kernel_.answers[0].header.error, -EINVAL);
  EXPECT_EQ(kernel_.answers[1].header.error, -EINVAL);
  EXPECT_EQ(kernel_.answers[2].header.error, -ENOSYS);
}

TEST(FuseQueues, AreAsManyAsThereAreProcessors) {
  EXPECT_EQ(count_processors("0"), 1u);
  EXPECT_EQ(count_processors("0-63"), 64u);
  EXPECT_EQ(count_processors("0-3,8,10-11"), 7u);
  for (const char* nonsense : {"", "x", "3-1", "0-", "0,", "0-99999", "0 1"}) {
    EXPECT_EQ(count_processors(nonsense), 0u) << nonsense;
  }
  EXPECT_GE(count_queues(), 1u);
}

TEST(FuseQueues, AreNotMadeWithoutARing) {
  FileRequests* const none = nullptr;
  const auto refuse = [](unsigned) -> Result<std::unique_ptr<io::CommandRing>> {
    return fail(EPERM, "no");
  };
  EXPECT_EQ(RequestQueues::create(2, *none, refuse).error().code(), EPERM);
  EXPECT_EQ(RequestQueues::create(0, *none, refuse).error().code(), ENOTSUP);
}

}  // namespace
}  // namespace cairn::fuse
