// Lives of a disk that guests write to at random while it is backed up and mirrored, with requests
// that overtake each other, failures and pauses. A model of the bytes says what the disk holds at
// every moment, what a backup has to hold, and what is to be found at the end of a mirror.
#include <algorithm>
#include <cstdlib>

#include "io/task_group.h"
#include "tests/jobs/copy_job_test.h"
#include "tests/support/random.h"

namespace cairn::jobs {
namespace {

using schema::JobStatus;
using testing::IoKind;
using testing::Random;

constexpr uint64_t kUsualLives = 30;

class CopyStressTest : public CopyJobTest {
 protected:
  static constexpr unsigned kGuests = 4;
  // What each guest has for itself, so that the model knows the order of what overlaps. Granules
  // are shared.
  static constexpr uint64_t kOwn = 24 << 10;

  void begin_life(uint64_t seed) {
    SCOPED_TRACE(seed);
    random_ = Random(seed);
    guest_ = &add_source();
    add_target();
    model_ = old_content();
    stop_ = false;
    world_.set_delays(std::chrono::microseconds(random_.between(1, 3000)));
  }
  // Everything goes, so that another life can begin.
  void end_life() {
    world_.set_delays(io::Duration(0));
    world_.clear_faults();
    while (!edges_.empty()) {
      ASSERT_TRUE(run(graph_.detach(std::move(edges_.back()))));
      edges_.pop_back();
    }
    ASSERT_TRUE(graph_.nodes().empty());
    errors_.clear();
  }

  void start_guests(io::TaskGroup& guests) {
    for (unsigned i = 0; i < kGuests; ++i) {
      guests.spawn(guest(i, random_.fork()));
    }
  }

  io::Task<void> guest(unsigned number, Random random) {
    while (!stop_) {
      const uint64_t block = random.below(kSize / kOwn / kGuests) * kGuests + number;
      const uint64_t length = random.between(1, kOwn);
      const uint64_t offset = block * kOwn + random.below(kOwn - length + 1);
      if (random.chance(75)) {
        const std::vector<std::byte> data = pattern(random.next(), offset, length);
        const Result<void> done = co_await guest_->write(offset, data.data(), length);
        if (done) {
          std::copy(data.begin(), data.end(), at(offset));
        }
        refused_ += done ? 0 : 1;
      } else {
        const Result<void> done =
            co_await guest_->write_zeroes(offset, length, {.may_unmap = random.chance(50)});
        if (done) {
          std::fill_n(at(offset), length, std::byte{0});
        }
        refused_ += done ? 0 : 1;
      }
      if (random.chance(20)) {
        static_cast<void>(co_await io::sleep_for(std::chrono::milliseconds(random.below(20))));
      }
    }
  }
  [[nodiscard]] std::vector<std::byte>::iterator at(uint64_t offset) {
    return model_.begin() + static_cast<std::ptrdiff_t>(offset);
  }

  void point_in_time() override { saved_ = model_; }

  // Steers the job at random for a while.
  void meddle() {
    for (uint64_t i = random_.below(4); i > 0; --i) {
      pass_time(random_.below(10));
      if (random_.chance(50)) {
        static_cast<void>(list_.pause("j"));
        pass_time(random_.below(10));
        static_cast<void>(list_.resume("j"));
      } else {
        static_cast<void>(list_.set_speed("j", random_.chance(50) ? 0 : 50 * kGranule));
      }
    }
    static_cast<void>(list_.set_speed("j", 0));
    static_cast<void>(list_.resume("j"));
  }
  void pass_time(uint64_t milliseconds) { run(asleep(milliseconds)); }
  static io::Task<void> asleep(uint64_t milliseconds) {
    static_cast<void>(co_await io::sleep_for(std::chrono::milliseconds(milliseconds)));
  }
  void fail_sometimes(const char* file) {
    if (random_.chance(50)) {
      world_.add_fault({.kind = IoKind::kWrite,
                        .file = file,
                        .after = random_.below(20),
                        .times = random_.between(1, 5)});
    }
  }
  static uint64_t lives() {
    const char* wanted = std::getenv("CAIRN_COPY_LIVES");
    return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : kUsualLives;
  }

  Random random_{0};
  block::Edge* guest_ = nullptr;
  std::vector<std::byte> model_;
  std::vector<std::byte> saved_;
  uint64_t refused_ = 0;
  bool stop_ = false;
};

TEST_F(CopyStressTest, BackupsHoldTheMomentOfTheirStart) {
  for (uint64_t seed = 1; seed <= lives(); ++seed) {
    SCOPED_TRACE(seed);
    begin_life(seed);
    io::TaskGroup guests;
    start_guests(guests);
    pass_time(random_.below(20));
    fail_sometimes("target");
    BackupSettings wanted = backup();
    wanted.copying.on_target_error = schema::BlockdevOnError::kIgnore;
    wanted.copying.workers = static_cast<unsigned>(random_.between(1, 8));
    wanted.chunk = random_.chance(50) ? 0 : kGranule;
    ASSERT_TRUE(start(std::move(wanted)));
    meddle();
    EXPECT_EQ(finish(), "");
    stop_ = true;
    run(guests.join());
    EXPECT_TRUE(content("target") == saved_) << "the backup";
    EXPECT_TRUE(content("source") == model_) << "the disk";
    end_life();
  }
}

// Whatever becomes of the backup, the disk is none the worse for it.
TEST_F(CopyStressTest, BackupsThatFailOrLoseTheSnapshotLeaveTheDiskAlone) {
  for (uint64_t seed = 1; seed <= lives(); ++seed) {
    SCOPED_TRACE(seed);
    begin_life(seed);
    io::TaskGroup guests;
    start_guests(guests);
    fail_sometimes("target");
    BackupSettings wanted = backup();
    wanted.break_snapshot = random_.chance(50);
    const bool guests_come_first = wanted.break_snapshot;
    const uint64_t refused_before = refused_;
    ASSERT_TRUE(start(std::move(wanted)));
    meddle();
    if (random_.chance(30)) {
      static_cast<void>(list_.cancel("j"));
    }
    const bool well = finish().empty();
    stop_ = true;
    run(guests.join());
    EXPECT_TRUE(!guests_come_first || refused_ == refused_before);
    EXPECT_TRUE(!well || content("target") == saved_);
    EXPECT_TRUE(content("source") == model_);
    end_life();
  }
}

TEST_F(CopyStressTest, MirrorsLoseNoWrite) {
  for (uint64_t seed = 1; seed <= lives(); ++seed) {
    SCOPED_TRACE(seed);
    begin_life(seed);
    io::TaskGroup guests;
    start_guests(guests);
    fail_sometimes("target");
    MirrorSettings wanted = mirror();
    wanted.copying.on_target_error = schema::BlockdevOnError::kIgnore;
    wanted.write_both = random_.chance(50);
    wanted.granularity = random_.pick<uint64_t>({0, 512, 4096, kGranule});
    ASSERT_TRUE(start(std::move(wanted)));
    meddle();
    wait_for(JobStatus::kReady);
    world_.clear_faults();
    ASSERT_TRUE(list_.complete("j"));
    EXPECT_EQ(finish(), "");
    EXPECT_EQ(&guest_->node(), graph_.find("target").get());
    pass_time(random_.below(20));
    stop_ = true;
    run(guests.join());
    EXPECT_TRUE(content("target") == model_);
    end_life();
  }
}

TEST_F(CopyStressTest, MirrorsThatAreCancelledLeaveAGoodCopyOrNoTrace) {
  for (uint64_t seed = 1; seed <= lives(); ++seed) {
    SCOPED_TRACE(seed);
    begin_life(seed);
    io::TaskGroup guests;
    start_guests(guests);
    MirrorSettings wanted = mirror();
    wanted.write_both = random_.chance(50);
    ASSERT_TRUE(start(std::move(wanted)));
    meddle();
    const bool softly = random_.chance(50);
    if (softly) {
      wait_for(JobStatus::kReady);
      stop_ = true;
      run(guests.join());
    }
    ASSERT_TRUE(list_.cancel("j", !softly));
    EXPECT_EQ(finish(), softly ? "" : "Operation canceled");
    stop_ = true;
    run(guests.join());
    EXPECT_TRUE(content("source") == model_);
    EXPECT_TRUE(!softly || content("target") == model_);
    end_life();
  }
}

// The users go over, the power goes: what they had written and flushed before is at the target.
TEST_F(CopyStressTest, WhatWasFlushedBeforeTheWayOverSurvivesPowerCuts) {
  for (uint64_t seed = 1; seed <= lives(); ++seed) {
    SCOPED_TRACE(seed);
    begin_life(seed);
    io::TaskGroup guests;
    start_guests(guests);
    MirrorSettings wanted = mirror();
    wanted.write_both = random_.chance(50);
    ASSERT_TRUE(start(std::move(wanted)));
    meddle();
    wait_for(JobStatus::kReady);
    stop_ = true;
    run(guests.join());
    ASSERT_TRUE(run(guest_->flush()));
    ASSERT_TRUE(list_.complete("j"));
    EXPECT_EQ(finish(), "");
    world_.cut_power();
    world_.restore_power();
    EXPECT_TRUE(content("target") == model_);
    end_life();
  }
}

}  // namespace
}  // namespace cairn::jobs
