// Files on disk and in memory, and signals.
#include "io/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/buffer.h"
#include "io/cancel.h"
#include "io/copy_policy.h"
#include "io/signal.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

// A new directory, removed with all it holds.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& parent) {
    std::string pattern = parent + "/cairn-test-XXXXXX";
    if (mkdtemp(pattern.data()) != nullptr) {
      path_ = pattern;
    }
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] bool valid() const { return !path_.empty(); }

 private:
  std::string path_;
};

// Each test runs in memory and, where there is one, on a disk.
class FileTest : public ReactorTest {
 protected:
  template <typename Test>
  void on_each_kind_of_file(Test test) {
    for (const char* parent : {"/dev/shm", "/var/tmp"}) {
      SCOPED_TRACE(parent);
      const TemporaryDirectory directory(parent);
      if (directory.valid()) {
        run(test(directory.file("f")));
      }
    }
  }
};

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  }
  return bytes;
}

constexpr FileOpenOptions kCreate{.writable = true, .create = true};

Task<File> open_or_fail(std::string path, FileOpenOptions options) {
  auto opening = File::open(std::move(path), options);
  auto file = co_await std::move(opening);
  EXPECT_TRUE(file.has_value()) << file.error().message();
  co_return file ? std::move(*file) : File();
}

Task<void> write_and_read_back(std::string path) {
  auto opening = open_or_fail(path, kCreate);
  File file = co_await std::move(opening);
  // More segments than one system call takes, of uneven sizes.
  auto data = pattern(std::size_t{5} * IOV_MAX);
  IoVector out;
  std::size_t at = 0;
  for (std::size_t length = 1; at + length + 1 <= data.size(); length = length % 4 + 1) {
    out.append(data.data() + at, length);
    at += length + 1;  // a gap, so that nothing is merged
  }
  EXPECT_GT(out.segments().size(), static_cast<std::size_t>(IOV_MAX));
  auto writing = file.write_at(out, 12345);
  auto written = co_await std::move(writing);
  EXPECT_TRUE(written.has_value());
  EXPECT_EQ(*file.size(), 12345 + out.size());

  std::vector<std::byte> flat(out.size());
  out.copy_to(0, flat);
  std::vector<std::byte> back(out.size() + 100);
  auto reading = file.read_at(IoVector(back), 12345);
  auto count = co_await std::move(reading);
  EXPECT_TRUE(count.has_value());
  EXPECT_EQ(*count, flat.size());  // short only at the end of the file
  back.resize(flat.size());
  EXPECT_EQ(back, flat);

  auto syncing = file.sync_data();
  auto synced = co_await std::move(syncing);
  EXPECT_TRUE(synced.has_value());
  auto syncing_all = file.sync_all();
  auto synced_all = co_await std::move(syncing_all);
  EXPECT_TRUE(synced_all.has_value());
}

TEST_F(FileTest, WritesAndReadsAnyNumberOfSegments) { on_each_kind_of_file(write_and_read_back); }

Task<void> write_one(const File& file, std::vector<std::byte>& block, uint64_t offset) {
  auto writing = file.write_at(IoVector(block), offset, RWF_DSYNC);
  auto written = co_await std::move(writing);
  EXPECT_TRUE(written.has_value());
}

Task<void> write_in_parallel(std::string path) {
  auto opening = open_or_fail(path, kCreate);
  File file = co_await std::move(opening);
  constexpr std::size_t kBlocks = 64;
  constexpr std::size_t kBlock = 4096;
  std::vector<std::vector<std::byte>> blocks;
  for (std::size_t i = 0; i < kBlocks; ++i) {
    blocks.emplace_back(kBlock, static_cast<std::byte>(i));
  }
  TaskGroup group;
  for (std::size_t i = 0; i < kBlocks; ++i) {
    group.spawn(write_one(file, blocks[i], i * kBlock));
  }
  auto join = group.join();
  co_await std::move(join);
  std::vector<std::byte> all(kBlocks * kBlock);
  auto reading = file.read_at(IoVector(all), 0);
  auto count = co_await std::move(reading);
  EXPECT_EQ(*count, all.size());
  for (std::size_t i = 0; i < all.size(); i += kBlock / 2) {
    EXPECT_EQ(all[i], static_cast<std::byte>(i / kBlock));
  }
}

TEST_F(FileTest, ManyDurableWritesAtOnce) { on_each_kind_of_file(write_in_parallel); }

Task<void> allocate_and_punch(std::string path) {
  auto opening = open_or_fail(path, kCreate);
  File file = co_await std::move(opening);
  auto allocating = file.allocate(0, 0, 1 << 20);
  auto allocated = co_await std::move(allocating);
  if (!allocated && allocated.error().code() == EOPNOTSUPP) {
    co_return;  // this file system has no fallocate()
  }
  EXPECT_TRUE(allocated.has_value()) << allocated.error().message();
  EXPECT_EQ(*file.size(), 1U << 20);
  std::vector<std::byte> ones(65536, std::byte{1});
  auto writing = file.write_at(IoVector(ones), 0);
  co_await std::move(writing);
  auto punching = file.allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192);
  auto punched = co_await std::move(punching);
  EXPECT_TRUE(punched.has_value());
  std::vector<std::byte> back(65536);
  const IoVector into(back);
  auto reading = file.read_at(into, 0);
  co_await std::move(reading);
  EXPECT_TRUE(into.is_zero(4096, 8192));
  EXPECT_FALSE(into.is_zero(4095, 1));
  EXPECT_FALSE(into.is_zero(4096 + 8192, 1));
  auto truncating = file.truncate(1000);
  auto truncated = co_await std::move(truncating);
  EXPECT_TRUE(truncated.has_value());
  EXPECT_EQ(*file.size(), 1000U);
  auto too_far = file.truncate(UINT64_MAX);
  auto refused = co_await std::move(too_far);
  EXPECT_EQ(refused.error().code(), EFBIG);
}

TEST_F(FileTest, AllocatesPunchesAndTruncates) { on_each_kind_of_file(allocate_and_punch); }

Task<void> fail_in_all_ways(std::string path) {
  auto missing = File::open(path, {});
  auto no_file = co_await std::move(missing);
  EXPECT_EQ(no_file.error().code(), ENOENT);
  EXPECT_EQ(no_file.error().message(), "Could not open '" + path + "': No such file or directory");

  auto creating = open_or_fail(path, kCreate);
  co_await std::move(creating);
  auto exclusive = File::open(path, {.writable = true, .create = true, .exclusive = true});
  auto exists = co_await std::move(exclusive);
  EXPECT_EQ(exists.error().code(), EEXIST);

  auto opening = open_or_fail(path, {});
  File read_only = co_await std::move(opening);
  std::vector<std::byte> bytes(10);
  auto writing = read_only.write_at(IoVector(bytes), 0);
  auto written = co_await std::move(writing);
  EXPECT_EQ(written.error().code(), EBADF);
  auto reading = read_only.read_at(IoVector(bytes), 0);
  auto count = co_await std::move(reading);
  EXPECT_EQ(*count, 0U);  // an empty file
  auto far_reading = read_only.read_at(IoVector(bytes), UINT64_MAX - 5);
  auto far_count = co_await std::move(far_reading);
  EXPECT_EQ(far_count.error().code(), EINVAL);
}

TEST_F(FileTest, FailuresCarryTheirErrno) { on_each_kind_of_file(fail_in_all_ways); }

Task<void> open_fifo(std::string path) {
  EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
  auto opening = open_or_fail(path, {});
  const File fifo = co_await std::move(opening);
  EXPECT_TRUE(fifo.is_open());
  EXPECT_FALSE(fifo.in_memory());
  EXPECT_EQ(fcntl(fifo.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(FileTest, OpeningAFifoDoesNotHang) { on_each_kind_of_file(open_fifo); }

TEST_F(FileTest, KnowsWhatIsInMemory) {
  const TemporaryDirectory directory("/dev/shm");
  if (!directory.valid()) {
    GTEST_SKIP();
  }
  EXPECT_TRUE(File::open_now(directory.file("f"), kCreate)->in_memory());
  EXPECT_FALSE(File::open_now("/dev/null", {})->in_memory());
}

Task<void> read_in_memory_many_times(std::string path) {
  auto opening = open_or_fail(path, kCreate);
  const File file = co_await std::move(opening);
  auto data = pattern(512);
  auto writing = file.write_at(IoVector(data), 0);
  co_await std::move(writing);
  const uint64_t before = Reactor::current().operations_submitted();
  for (int i = 0; i < 2000; ++i) {
    std::array<std::byte, 512> block{};
    auto reading = file.read_at(IoVector(block), 0);
    auto count = co_await std::move(reading);
    EXPECT_EQ(*count, block.size());
    EXPECT_TRUE(std::ranges::equal(block, data));
  }
  EXPECT_EQ(Reactor::current().operations_submitted(), before);
}

TEST_F(FileTest, FilesInMemoryNeedNoBackEnd) {
  const TemporaryDirectory directory("/dev/shm");
  if (!directory.valid()) {
    GTEST_SKIP();
  }
  run(read_in_memory_many_times(directory.file("f")));
}

Task<void> rewrite(const File& file, uint64_t offset, std::vector<std::byte> data) {
  std::vector<std::byte> back(data.size());
  for (int i = 0; i < 20; ++i) {
    data[0] = static_cast<std::byte>(i);
    auto writing = file.write_at(IoVector(data), offset);
    auto written = co_await std::move(writing);
    EXPECT_TRUE(written.has_value());
    auto reading = file.read_at(IoVector(back), offset);
    auto count = co_await std::move(reading);
    EXPECT_EQ(*count, back.size());
    EXPECT_EQ(back, data);
  }
}

Task<void> copy_much_at_once(std::string path) {
  auto opening = open_or_fail(path, kCreate);
  const File file = co_await std::move(opening);
  const uint64_t before = Reactor::current().operations_submitted();
  TaskGroup group;
  for (uint64_t i = 0; i < 8; ++i) {
    group.spawn(rewrite(file, i * 300'000, pattern(300'000)));
  }
  auto join = group.join();
  co_await std::move(join);
  EXPECT_GT(Reactor::current().operations_submitted(), before);
}

TEST_F(FileTest, SeveralLargeCopiesInMemoryShareTheWork) {
  const TemporaryDirectory directory("/dev/shm");
  if (!directory.valid()) {
    GTEST_SKIP();
  }
  run(copy_much_at_once(directory.file("f")));
}

TEST(CopyPolicyTest, KeepsTheOnlyCopyHere) {
  CopyPolicy policy;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(policy.begin_elsewhere());
    policy.next_turn();
  }
}

TEST(CopyPolicyTest, KeepsAllHereForAProgramThatAsksForIt) {
  CopyPolicy policy;
  policy.keep_here();
  EXPECT_FALSE(policy.begin_elsewhere());
  EXPECT_FALSE(policy.begin_elsewhere());
  policy.next_turn();
  EXPECT_FALSE(policy.begin_elsewhere());
}

TEST(CopyPolicyTest, SendsCopiesAwayWhileThereAreSeveral) {
  CopyPolicy policy;
  EXPECT_FALSE(policy.begin_elsewhere());
  EXPECT_TRUE(policy.begin_elsewhere());  // a second in the same turn
  policy.next_turn();
  EXPECT_TRUE(policy.begin_elsewhere());  // while another is at it
  policy.end();
  policy.end();
  policy.next_turn();
  EXPECT_FALSE(policy.begin_elsewhere());  // the last turn had but one
  EXPECT_TRUE(policy.begin_elsewhere());
  policy.end();
  policy.next_turn();
  policy.next_turn();
  EXPECT_TRUE(policy.begin_elsewhere());  // the last turn that had any had two
}

class SignalTest : public ReactorTest {};

Task<void> store_signal(const SignalWatcher& watcher, CancelToken token, int& got) {
  auto next = watcher.next(token);
  auto signal = co_await std::move(next);
  got = signal ? *signal : -signal.error().code();
}

Task<void> watch_signals() {
  auto watcher = SignalWatcher::create({SIGUSR1, SIGUSR2});
  EXPECT_TRUE(watcher.has_value());
  CancelSource source;
  TaskGroup group;
  int got = 0;
  group.spawn(store_signal(*watcher, source.token(), got));
  co_await yield_now();
  EXPECT_EQ(got, 0);
  kill(getpid(), SIGUSR2);
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(got, SIGUSR2);

  kill(getpid(), SIGUSR1);  // before anybody waits
  group.spawn(store_signal(*watcher, source.token(), got));
  auto join_again = group.join();
  co_await std::move(join_again);
  EXPECT_EQ(got, SIGUSR1);

  group.spawn(store_signal(*watcher, source.token(), got));
  source.cancel();
  auto join_cancelled = group.join();
  co_await std::move(join_cancelled);
  EXPECT_EQ(got, -ECANCELED);
}

TEST_F(SignalTest, ArriveAtTheCoroutineThatWaits) {
  run(watch_signals());
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGUSR1), 0);
}

}  // namespace
}  // namespace cairn::io
