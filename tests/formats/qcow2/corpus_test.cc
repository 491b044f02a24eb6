// The corpus of damaged images, each opened, read, checked, repaired and written to in a process of
// its own: none ends it, costs more than a bounded number of requests, bytes and memory, or is
// refused without a reason; and no repair takes away what could be read.
#include "tests/formats/qcow2/corpus.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/formats/qcow2/repair_test.h"

namespace cairn::qcow2 {
namespace {

using testing::IoKind;

// Of opening. Tables that may be as large as this are read whole, and a table of snapshots in
// pieces.
constexpr uint64_t kMostRequests = 5000;
constexpr uint64_t kMostBytesRead = 160 << 20;
// What a process may need beyond what it has: 64 MiB, 32 MiB for the cache of L2 tables, and what
// the simulated file takes to hand over the largest table at once.
constexpr long kMostKib = (64 + 32 + 64) << 10;
// Sanitizers need memory themselves.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // as g++ says it
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)  // as clang does
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif
// Ends what would go on for ever; nothing comes near it.
constexpr rlim_t kMostSeconds = 60;

long peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// An error that says more than which errno it is. What is found damaged while the image is open is
// told to whoever listens, and the request that found it fails with a bare EIO.
bool tells_the_cause(const Error& error, uint64_t told) {
  return error.code() > 0 && !error.message().empty() &&
         (told > 0 || error.message() != std::strerror(error.code()));
}

void expect_reason(const Result<void>& result, uint64_t told) {
  EXPECT_TRUE(result || tells_the_cause(result.error(), told)) << result.error().message();
}

// How often damage was told, with a reason, while this lives.
class DamageCount {
 public:
  explicit DamageCount(ImageWorld& image) : image_(image) {
    image.graph().set_on_corruption(
        [this](const block::Corruption& found) { told += found.message.empty() ? 0 : 1; });
  }
  DamageCount(const DamageCount&) = delete;
  DamageCount& operator=(const DamageCount&) = delete;
  ~DamageCount() { image_.graph().set_on_corruption({}); }

  uint64_t told = 0;

 private:
  ImageWorld& image_;
};

void open_and_read(ImageWorld& image, bool writable) {
  DamageCount damage(image);
  const uint64_t requests = image.world().submitted();
  const uint64_t bytes = image.world().transferred(IoKind::kRead);
  const auto opened = image.open(writable);
  EXPECT_LE(image.world().submitted() - requests, kMostRequests);
  EXPECT_LE(image.world().transferred(IoKind::kRead) - bytes, kMostBytesRead);
  expect_reason(opened, 0);
  if (!opened) {
    return;
  }
  const uint64_t length = image.edge().length();
  std::vector<std::byte> data(std::min<uint64_t>(length, 64 << 10));
  for (const uint64_t at : {uint64_t{0}, (length - data.size()) / 2, length - data.size()}) {
    const auto read = image.run(image.edge().read(at, data.data(), data.size()));
    expect_reason(read, damage.told);
  }
  if (writable && length >= 1024) {
    const auto written = image.write(9, length - 1024, 512);
    expect_reason(written, damage.told);
    EXPECT_TRUE(!written || image.holds(9, length - 1024, 512));
  }
  static_cast<void>(image.close());
}

// As the tool checks and repairs.
void check(ImageWorld& image, bool repair) {
  DamageCount damage(image);
  const auto opened = image.open(repair, true);
  expect_reason(opened, 0);
  if (!opened) {
    return;
  }
  block::CheckOptions options{.fix_leaks = repair, .fix_errors = repair};
  options.report = [&damage](const std::string& line) { damage.told += line.empty() ? 0 : 1; };
  const auto checked = image.run(image.driver().check(std::move(options)));
  EXPECT_TRUE(checked || tells_the_cause(checked.error(), damage.told))
      << checked.error().message();
  static_cast<void>(image.close());
}

void play(const DamagedImage& damaged) {
  const long memory = peak_memory();
  for (const bool writable : {false, true}) {
    ImageWorld image;
    image.world().add("image", damaged.bytes);
    open_and_read(image, writable);
  }
  ImageWorld image;
  image.world().add("image", damaged.bytes);
  check(image, false);
  check(image, true);
  if constexpr (!kSanitized) {
    EXPECT_LE(peak_memory() - memory, kMostKib);
  }
}

// Where two structures lie in one cluster there is no telling whose it is: repairing the one
// changes the other.
bool has_shared_clusters(const std::string& name) {
  for (const char* place : {"= an L2 table", "= the L1 table", "= data"}) {
    if (name.ends_with(place)) {
      return true;
    }
  }
  return false;
}

void repair_and_compare(const DamagedImage& damaged) {
  ImageWorld image;
  image.world().add("image", damaged.bytes);
  const GuestContent before = guest_content(image);
  check(image, true);
  EXPECT_EQ(first_loss(before, guest_content(image)), SIZE_MAX);
}

// Has a child play it, so that it ends alone and its memory is seen.
void play_alone(const DamagedImage& damaged, void (*play_it)(const DamagedImage&)) {
  SCOPED_TRACE(damaged.name);
  std::fflush(nullptr);
  const pid_t child = fork();
  ASSERT_GE(child, 0) << std::strerror(errno);
  const auto* const result = ::testing::UnitTest::GetInstance()->current_test_info()->result();
  if (child == 0) {
    const int failures_before = result->total_part_count();
    const rlimit limit{kMostSeconds, kMostSeconds};
    setrlimit(RLIMIT_CPU, &limit);
    play_it(damaged);
    std::fflush(nullptr);
    _exit(result->total_part_count() == failures_before ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0) << "what failed is told above";
}

TEST(Qcow2Corpus, CostsLittleAndIsRefusedWithAReason) {
  for (const DamagedImage& damaged : damaged_images()) {
    play_alone(damaged, play);
  }
}

TEST(Qcow2Corpus, IsRepairedWithoutALoss) {
  const std::vector<DamagedImage> costly = costly_images();
  std::vector<DamagedImage> images = damaged_images();
  images.resize(images.size() - costly.size());  // they are the last
  for (const DamagedImage& damaged : images) {
    if (!has_shared_clusters(damaged.name)) {
      play_alone(damaged, repair_and_compare);
    }
  }
}

}  // namespace
}  // namespace cairn::qcow2
