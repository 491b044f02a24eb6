#include "tests/jobs/chain_life.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "formats/qcow2/driver.h"
#include "io/timer.h"
#include "io/worker_pool.h"
#include "jobs/chain.h"
#include "jobs/commit_job.h"
#include "jobs/stream_job.h"
#include "schema/types_block_options.h"
#include "tests/support/pattern.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/qcow2_verifier.h"
#include "tests/support/sim_backend.h"

namespace cairn::testing {
namespace {

constexpr uint32_t kClusterBits = 12;
constexpr uint64_t kClusterSize = uint64_t{1} << kClusterBits;
constexpr uint64_t kDisk = 64 * kClusterSize;
constexpr uint64_t kSectorSize = 512;

using schema::BlockdevOnError;

}  // namespace

ChainLife::ChainLife(uint64_t seed)
    : seed_(seed),
      random_(seed),
      world_(seed),
      reactor_(std::make_unique<SimBackend>(seed)),
      model_(std::make_unique<ContentModel>(kDisk)) {
  io::WorkerPool::keep_shared_work_inline();
  drivers_.add(SimulatedWorld::driver());
  drivers_.add(qcow2::kQcow2Driver);
  jobs::JobEvents events;
  events.ended = [this](const jobs::Job& job) {
    job_over_ = true;
    job_succeeded_ = !job.error();
  };
  list_.set_events(std::move(events));
}

void ChainLife::find(std::string text) {
  if (found_.empty()) {
    found_ = fmt::format("seed {} ({}): {}", seed_, what_, text);
  }
}

void ChainLife::make_image(const std::string& name, const std::string& below, uint64_t length) {
  Qcow2Builder builder({.cluster_bits = kClusterBits,
                        .size = length,
                        .backing_file = below,
                        .backing_format = below.empty() ? "" : "qcow2"});
  const auto settled = [this](uint64_t offset, uint64_t bytes, WriteNumber number) {
    const auto change = model_->begin_change(offset, bytes, {.number = number});
    model_->end_change(change, true, true);
  };
  for (uint64_t offset = 0; offset < length; offset += kClusterSize) {
    const uint64_t kind = random_.below(4);
    if (kind == 0) {
      builder.zero(offset, false);
      settled(offset, kClusterSize, kZeroes);
    } else if (kind == 1) {
      std::vector<std::byte> data(kClusterSize);
      fill_pattern(++next_number_, offset, data);
      builder.data(offset, data);
      settled(offset, kClusterSize, next_number_);
    }
  }
  if (length < kDisk) {
    settled(length, kDisk - length, kZeroes);
  }
  world_.add(name, builder.finish());
  names_.push_back(name);
}

void ChainLife::make_images() {
  const uint64_t images = random_.between(2, 4);
  std::string below;
  for (uint64_t i = 0; i < images; ++i) {
    const bool last = i + 1 == images;
    const bool shorter = !last && random_.chance(30);
    const uint64_t length = shorter ? random_.between(1, 63) * kClusterSize : kDisk;
    const std::string name = fmt::format("image{}", i);
    make_image(name, below, length);
    below = name;
  }
  current_ = below;
}

io::Task<Result<std::shared_ptr<block::Node>>> ChainLife::open(std::string name, bool writable) {
  schema::BlockdevOptions file;
  file.driver = schema::BlockdevDriver::kFile;
  file.discard = schema::BlockdevDiscardOptions::kUnmap;
  schema::BlockdevOptionsFile file_branch;
  file_branch.filename = std::move(name);
  file.branch = std::move(file_branch);
  schema::BlockdevOptions image;
  image.driver = schema::BlockdevDriver::kQcow2;
  image.discard = schema::BlockdevDiscardOptions::kUnmap;
  schema::BlockdevOptionsQcow2 branch;
  branch.file.value = schema::Box<schema::BlockdevOptions>(std::move(file));
  image.branch.emplace<schema::BlockdevOptionsQcow2>(std::move(branch));
  const block::OpenFlags flags{.read_only = !writable};
  co_return co_await graph_.open(image, flags);
}

std::shared_ptr<block::Node> ChainLife::behind(const std::shared_ptr<block::Node>& node,
                                               unsigned steps) const {
  std::shared_ptr<block::Node> found = node;
  for (unsigned i = 0; i < steps; ++i) {
    found = jobs::image_behind(*found);
  }
  return found;
}

io::Task<Result<std::unique_ptr<jobs::Job>>> ChainLife::make_job(std::shared_ptr<block::Node> top) {
  const auto layers = static_cast<unsigned>(names_.size());
  const BlockdevOnError policy =
      random_.pick({BlockdevOnError::kReport, BlockdevOnError::kStop, BlockdevOnError::kIgnore});
  jobs::JobSettings settings{.id = "j", .auto_finalize = random_.chance(70)};
  if (random_.chance(45)) {
    settings.type = schema::JobType::kStream;
    jobs::StreamOptions options{.settings = std::move(settings), .on_error = policy};
    // An image in the middle, too; and down to some base, or all of the chain.
    const auto from = static_cast<unsigned>(random_.below(layers - 1));
    options.device = behind(top, from);
    if (random_.chance(50)) {
      options.bottom = behind(top, static_cast<unsigned>(random_.between(from, layers - 1)));
    }
    what_ = fmt::format("stream into {}, policy {}", names_[layers - 1 - from],
                        schema::to_string(policy));
    co_return co_await jobs::StreamJob::make(list_, graph_, std::move(options), jobs::InDrain::kNo);
  }
  settings.type = schema::JobType::kCommit;
  jobs::CommitJobOptions options{.settings = std::move(settings), .on_error = policy};
  const auto from = static_cast<unsigned>(random_.below(layers - 1));
  const auto to = static_cast<unsigned>(random_.between(from + 1, layers - 1));
  options.device = top;
  options.top = behind(top, from);
  options.base = behind(top, to);
  what_ = fmt::format("commit of {} into {}, policy {}", names_[layers - 1 - from],
                      names_[layers - 1 - to], schema::to_string(policy));
  co_return co_await jobs::CommitJob::make(list_, graph_, std::move(options), jobs::InDrain::kNo);
}

io::Task<void> ChainLife::one_operation(uint64_t offset, uint64_t length) {
  switch (random_.below(8)) {
    case 0: {
      const auto flush = model_->begin_flush();
      const Result<void> flushed = co_await edge_->flush();
      if (flushed) {
        model_->end_flush(flush);
      }
      break;
    }
    case 1: {
      const auto change = model_->begin_change(offset, length, {.number = kZeroes});
      const Result<void> zeroed =
          co_await edge_->write_zeroes(offset, length, {.may_unmap = random_.chance(50)});
      model_->end_change(change, zeroed.has_value());
      break;
    }
    case 2:
    case 3: {
      const auto handle = model_->begin_read();
      std::vector<std::byte> data(length);
      const Result<void> read = co_await edge_->read(offset, data.data(), length);
      if (!read) {
        model_->drop_read(handle);
      } else if (const auto wrong = model_->end_read(handle, offset, data)) {
        find(*wrong);
      }
      break;
    }
    default: {
      std::vector<std::byte> data(length);
      const WriteNumber number = ++next_number_;
      fill_pattern(number, offset, data);
      const auto change = model_->begin_change(offset, length, {.number = number});
      const Result<void> written = co_await edge_->write(offset, data.data(), length);
      model_->end_change(change, written.has_value());
    }
  }
}

io::Task<void> ChainLife::use(unsigned operations) {
  for (unsigned i = 0; i < operations && world_.powered() && found_.empty(); ++i) {
    const uint64_t longest = random_.chance(20) ? 6 * kClusterSize : kClusterSize;
    const uint64_t length = random_.between(1, longest / kSectorSize) * kSectorSize;
    const uint64_t offset = random_.between(0, (kDisk - length) / kSectorSize) * kSectorSize;
    co_await one_operation(offset, length);
    const io::Duration pause = std::chrono::microseconds(random_.below(200));
    co_await io::sleep_for(pause);
  }
}

// The commands that a job gets, until it is over.
io::Task<void> ChainLife::steer() {
  const bool lets_it_end = random_.chance(75);
  while (!job_over_) {
    const io::Duration pause = std::chrono::microseconds(random_.between(50, 3000));
    co_await io::sleep_for(pause);
    jobs::Job* job = list_.find("j");
    if (job == nullptr) {
      break;
    }
    Result<void> ignored;
    if (job->pause_wanted()) {
      ignored = list_.resume("j");
    } else if (random_.chance(10)) {
      ignored = list_.pause("j");
    } else if (!world_.powered() || (!lets_it_end && random_.chance(10))) {
      ignored = list_.cancel("j", random_.chance(50) || !world_.powered());
    } else if (job->status() == schema::JobStatus::kReady) {
      ignored = list_.complete("j");
    } else if (job->status() == schema::JobStatus::kPending) {
      ignored = list_.finalize("j");
    }
  }
}

io::Task<void> ChainLife::play() {
  auto top = co_await open(current_, true);
  if (!top) {
    find(top.error().message());
    co_return;
  }
  using P = block::PermissionSet;
  auto edge = graph_.attach(std::move(*top), "a client", {.used = P::kConsistentRead | P::kWrite});
  if (!edge) {
    find(edge.error().message());
    co_return;
  }
  edge_ = std::move(*edge);
  std::shared_ptr<block::Node> node = edge_->shared_node();
  auto job = co_await make_job(std::move(node));
  if (!job) {
    find("it can not be started: " + job.error().message());
  } else {
    world_.set_delays(std::chrono::microseconds(random_.between(1, 300)));
    if (random_.chance(35)) {
      world_.cut_power_at(random_.between(1, 400));
    } else if (random_.chance(40)) {
      world_.add_fault({.file = names_[random_.below(names_.size())],
                        .after = random_.below(60),
                        .times = random_.between(1, 3),
                        .error = random_.chance(50) ? ENOSPC : EIO,
                        .torn = random_.chance(30)});
    }
    io::TaskGroup group;
    list_.start(std::move(*job));
    const auto clients = static_cast<unsigned>(random_.between(1, 4));
    for (unsigned i = 0; i < clients; ++i) {
      group.spawn(use(static_cast<unsigned>(random_.between(5, 60))));
    }
    group.spawn(steer());
    co_await group.join();
  }
  co_await list_.close();
  // Which image is the disk now: after a commit of the one in use the base.
  current_ = jobs::below_filters(edge_->shared_node())->filename();
  cut_ = !world_.powered();
  const Result<void> closed = co_await graph_.detach(std::move(edge_));
  if (closed) {
    model_->end_flush(model_->begin_flush());
  }
}

void ChainLife::verify(const std::string& name) {
  const auto report = Qcow2Verifier(world_.find(name)->disk.visible()).verify();
  if (!report.corruptions.empty()) {
    find(fmt::format("{} is corrupt: {}", name, report.corruptions.front()));
  }
}

io::Task<void> ChainLife::inspect() {
  if (world_.in_flight() != 0) {
    find("requests are in flight after closing");
    co_return;
  }
  if (world_.powered()) {
    world_.cut_power();
  }
  world_.restore_power();
  world_.clear_faults();
  model_->power_cut();
  for (const std::string& name : names_) {
    verify(name);
  }
  auto top = co_await open(current_, false);
  if (!top) {
    find("the image can not be opened: " + top.error().message());
    co_return;
  }
  auto edge =
      graph_.attach(std::move(*top), "a test", {.used = block::PermissionSet::kConsistentRead});
  if (!edge) {
    find(edge.error().message());
    co_return;
  }
  std::vector<std::byte> disk(kDisk);
  const Result<void> read = co_await (*edge)->read(0, disk.data(), disk.size());
  if (!read) {
    find("the image can not be read: " + read.error().message());
  } else if (const auto wrong = model_->settle(0, disk)) {
    find("afterwards, " + *wrong);
  }
  const Result<void> closed = co_await graph_.detach(std::move(*edge));
  if (!closed) {
    find(closed.error().message());
  }
}

std::string ChainLife::live() {
  make_images();
  reactor_.block_on(play());
  reactor_.block_on(inspect());
  for (const std::string& violation : world_.violations()) {
    find(violation);
  }
  return found_;
}

}  // namespace cairn::testing
