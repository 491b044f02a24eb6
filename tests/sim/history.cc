#include "tests/sim/history.h"

#include <fmt/format.h>

#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"
#include "io/timer.h"
#include "schema/types_block_options.h"
#include "tests/support/sim_backend.h"

namespace cairn::testing {

History::History(const SimOptions& options)
    : options_(options),
      random_(options.seed),
      plan_(draw_plan(options, random_)),
      world_(random_.next()),
      reactor_([&] {
        auto backend = std::make_unique<SimBackend>(options.seed);
        backend->set_deadlock_report([this] {
          return fmt::format("{}; {} requests of disks in flight", plan_.describe(),
                             world_.in_flight());
        });
        return backend;
      }()),
      graph_(drivers_) {
  drivers_.add(SimulatedWorld::driver());
  drivers_.add(qcow2::kQcow2Driver);
  drivers_.add(raw::kRawDriver);
  // Of bitmaps that could not be stored, or that version 2 has left behind.
  graph_.set_on_warning(
      [this](std::string_view message, std::string_view) { world_.note(message); });
  world_.set_trace(options.trace);
  world_.set_delays(plan_.delay, plan_.straggling);
  result_.plan = plan_.describe();
}

HistoryResult History::run() {
  build_images();
  for (const Round& round : plan_.rounds) {
    reactor_.block_on(play(round));
    if (!found()) {
      reactor_.block_on(inspect(round));
    }
    if (!found() && !world_.violations().empty()) {
      find(world_.violations().front());
    }
    if (found()) {
      if (!options_.save_to.empty()) {
        save_images(options_.save_to);
      }
      break;
    }
  }
  result_.fingerprint = world_.fingerprint();
  result_.requests = world_.submitted();
  return result_;
}

void History::find(std::string what) {
  world_.note(what);
  if (!found()) {
    result_.finding = std::move(what);
  }
}

bool History::troubled() const { return !world_.powered() || world_.faults() > faults_before_; }

schema::BlockdevOptions History::top_options() const {
  schema::BlockdevOptions file;
  file.driver = schema::BlockdevDriver::kFile;
  file.discard = schema::BlockdevDiscardOptions::kUnmap;
  schema::BlockdevOptionsFile file_branch;
  file_branch.filename = top_;
  file.branch = file_branch;
  schema::BlockdevOptions options;
  options.discard = plan_.discard_unmap ? schema::BlockdevDiscardOptions::kUnmap
                                        : schema::BlockdevDiscardOptions::kIgnore;
  options.detect_zeroes = plan_.detect_zeroes ? schema::BlockdevDetectZeroesOptions::kOn
                                              : schema::BlockdevDetectZeroesOptions::kOff;
  if (plan_.format == Plan::Format::kRaw) {
    options.driver = schema::BlockdevDriver::kRaw;
    schema::BlockdevOptionsRaw branch;
    branch.file.value = schema::Box<schema::BlockdevOptions>(file);
    options.branch = branch;
    return options;
  }
  options.driver = schema::BlockdevDriver::kQcow2;
  schema::BlockdevOptionsQcow2 branch;
  branch.file.value = schema::Box<schema::BlockdevOptions>(file);
  branch.discard_no_unref = plan_.discard_no_unref && plan_.shape.version >= 3;
  branch.pass_discard_other = plan_.pass_discard_other;
  if (plan_.overlap_check_all) {
    branch.overlap_check = schema::Qcow2OverlapChecks{.value = schema::Qcow2OverlapCheckMode::kAll};
  }
  if (plan_.l2_cache != 0) {
    branch.l2_cache_size = static_cast<int64_t>(plan_.l2_cache);
    branch.refcount_cache_size = static_cast<int64_t>(plan_.refcount_cache);
  }
  options.branch = branch;
  return options;
}

io::Task<Result<void>> History::open_top(bool writable, bool commits) {
  schema::BlockdevOptions options = top_options();
  options.read_only = !writable;
  const block::OpenFlags flags{.writable_backing = commits ? 1U : 0};
  Result<std::shared_ptr<block::Node>> node = co_await graph_.open(options, flags);
  if (!node) {
    co_return pass(node, "open: ");
  }
  using block::PermissionSet;
  block::Permissions permissions{.used = PermissionSet::kConsistentRead,
                                 .shared = PermissionSet::all()};
  if (writable) {
    permissions.used |= PermissionSet::kWrite | PermissionSet::kResize;
  }
  auto root = graph_.attach(*node, "the simulator", permissions);
  if (!root) {
    Result<void> ignored = co_await graph_.release(std::move(*node));
    co_return pass(root, "attach: ");
  }
  root_ = std::move(*root);
  if (options_.plant == Plant::kEarlyReuse) {
    root_->node().epochs().break_for_test();
  }
  co_return Result<void>{};
}

io::Task<void> History::close_top() {
  const Result<void> result = co_await graph_.detach(std::move(root_));
  world_.note("closed");
  if (!result) {
    failed_ = true;
    if (!troubled()) {
      find(fmt::format("close failed without cause: {}", result.error().message()));
    }
  }
  if (!graph_.nodes().empty()) {
    find("nodes are left after closing");
  }
}

void History::arm(const Round& round) {
  if (round.ending == Round::Ending::kPowerCut) {
    // Most operations make about two requests; a cut that comes late falls into the close.
    world_.cut_power_at(random_.between(1, uint64_t{3} * round.operations));
  }
  for (const FaultRule& rule : round.faults) {
    world_.add_fault(rule);
  }
}

io::Task<void> History::play(const Round& round) {
  world_.note("round", round.operations, round.concurrency);
  failed_ = false;
  faults_before_ = world_.faults();
  if (round.cut_while_opening) {
    world_.cut_power_at(random_.between(1, 8));
  }
  retired_ = false;
  const Result<void> opened = co_await open_top(true, round.commits);
  if (!opened) {
    if (!troubled()) {
      find(opened.error().message());
    }
    co_return;
  }
  if (world_.powered() && !round.cut_while_opening) {
    arm(round);
  }
  limit_ = model_->length();
  io::TaskGroup group;
  for (unsigned i = 0; i < round.operations && world_.powered() && !found() && !retired_; ++i) {
    while (group.running() >= round.concurrency && world_.powered()) {
      const io::Duration moment = plan_.delay / 4;
      co_await io::sleep_for(moment);
    }
    const auto most = static_cast<uint64_t>(round.pause.count());
    const io::Duration pause(static_cast<io::Duration::rep>(random_.below(most + 1)));
    co_await io::sleep_for(pause);
    if (random_.chance(3)) {  // now and then everything comes to rest
      co_await group.join();
    }
    const Operation operation = draw_operation();
    if (operation == Operation::kAlone) {
      co_await group.join();
      co_await change_alone(round.commits);
    } else if (world_.powered()) {
      start_operation(operation, group);
    }
  }
  co_await group.join();
  co_await close_top();
}

}  // namespace cairn::testing
