// Amendments and commits in a history: changes of the image as a whole that the guest does not see.
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "block/create_options.h"
#include "formats/qcow2/create.h"
#include "jobs/commit.h"
#include "tests/sim/history.h"

namespace cairn::testing {

void History::start_amendment(io::TaskGroup& group) {
  if (plan_.format != Plan::Format::kQcow2 || resizing_) {
    return;
  }
  constexpr unsigned kWeights[] = {30, 30, 40};
  switch (random_.weighted(kWeights)) {
    case 0: {
      const bool down = versions_ == std::set<uint32_t>{3};
      // Bitmaps go with the version that has them.
      if (!down || !bitmaps_busy()) {
        group.spawn(amend("compat", down ? "0.10" : "1.1"));
      }
      break;
    }
    case 1:
      group.spawn(amend("lazy_refcounts", random_.chance(50) ? "on" : "off"));
      break;
    default:
      if (!below_.empty()) {
        group.spawn(rename_backing());
      }
  }
}

io::Task<void> History::amend(std::string option, std::string value) {
  resizing_ = true;
  const bool down = value == "0.10";
  downgrading_ = down;
  const auto versions = versions_;
  const auto lazy = lazy_;
  if (option == "compat") {
    versions_.insert(down ? 2 : 3);
  }
  // Turned off it shows from the next time on that the image is opened.
  lazy_.insert(value == "on");
  for (auto& [name, bitmap] : bitmaps_) {
    bitmap.certain = bitmap.certain && !down;
  }
  world_.note("start of amend " + option, down ? 1 : 0);
  block::CreateOptions options(qcow2::amend_option_table());
  const Result<void> set = options.set(option, value);
  if (!set) {
    find(set.error().message());
  }
  const Result<void> result = co_await root_->amend(std::move(options));
  resizing_ = downgrading_ = false;
  if (!result && (result.error().code() == EINVAL || result.error().code() == ENOTSUP)) {
    // Version 2 does not have it, or something in the image needs version 3.
    world_.note("amend refused");
    versions_ = versions;
    lazy_ = lazy;
    co_return;
  }
  ended("amend", {}, result);
  if (result && option == "compat") {
    versions_ = {down ? 2U : 3U};
  }
  if (result && down) {
    bitmaps_.clear();
  }
}

// Another way to write the same name.
io::Task<void> History::rename_backing() {
  resizing_ = true;
  std::string name = below_name(below_.size() - 1);
  const uint64_t longest = plan_.shape.cluster_size() >= 4096 ? 400 : 4;
  const uint64_t steps = random_.below(longest / 2);
  for (uint64_t i = 0; i < steps; ++i) {
    name.insert(0, "./");
  }
  const std::string format = name.ends_with("raw") ? "raw" : "qcow2";
  backing_names_.insert(name);
  world_.note("start of renaming", name.size());
  const Result<void> result = co_await root_->change_backing(name, format);
  resizing_ = false;
  if (!result && result.error().code() == ENOSPC && !troubled()) {
    world_.note("renaming refused");
    co_return;
  }
  ended("rename the backing file", {}, result);
  if (result) {
    backing_names_ = {name};
  }
}

io::Task<void> History::change_alone(bool may_commit) {
  if (plan_.format != Plan::Format::kQcow2 || !world_.powered()) {
    co_return;
  }
  // Drawn apart from all else, so that histories without it stay what they were.
  if (Random(plan_.size + next_number_).chance(50)) {
    co_await reopen();
    co_return;
  }
  // What a snapshot left to the backing file changes with it.
  if (may_commit && snapshots_.empty() && random_.chance(70)) {
    const bool empty = random_.chance(70);
    co_await commit(empty);
  } else {
    co_await change_refcount_width();
  }
}

io::Task<void> History::change_refcount_width() {
  const auto order = static_cast<uint32_t>(random_.below(7));
  block::CreateOptions options(qcow2::amend_option_table());
  const Result<void> set = options.set("refcount_bits", std::to_string(1U << order));
  if (!set) {
    find(set.error().message());
  }
  const auto before = refcount_orders_;
  refcount_orders_.insert(order);
  world_.note("start of amend refcount_bits", order);
  const Result<void> result = co_await root_->amend(std::move(options));
  // Nothing marks while the counts are read, so what there was to store is stored.
  bitmaps_stored();
  if (!result && result.error().code() == EINVAL) {
    // There are larger counts, or version 2 has one width.
    world_.note("amend refused");
    refcount_orders_ = before;
    co_return;
  }
  ended("amend refcount_bits", {}, result);
  retired_ = true;
  if (result) {
    refcount_orders_ = {order};
  }
}

io::Task<void> History::commit(bool empty) {
  using block::PermissionSet;
  const block::Permissions permissions{
      .used = PermissionSet::kConsistentRead | PermissionSet::kWrite | PermissionSet::kResize,
      .shared = PermissionSet::all()};
  auto base = graph_.attach(root_->node().backing()->shared_node(), "a commit", permissions);
  if (!base) {
    find(base.error().message());
    co_return;
  }
  ContentModel& below = *below_.back();
  base_changed_ = true;
  world_.note("start of commit", empty ? 1 : 0);
  const ContentModel::Handle flush = model_->begin_flush();
  below.begin_adopt(*model_);
  const jobs::CommitOptions options{
      .overlay = root_.get(), .base = base->get(), .empty = empty, .progress = {}};
  const Result<void> result = co_await jobs::commit_image(options);
  ended("commit", {0, model_->length()}, result);
  if (world_.powered()) {
    below.end_adopt(result.has_value(), (*base)->length());
    if (result && empty) {
      model_->end_flush(flush);
    }
  }
  const Result<void> detached = co_await graph_.detach(std::move(*base));
  if (!detached && !troubled()) {
    find(fmt::format("detaching the base failed: {}", detached.error().message()));
  }
}

void History::inspect_header(const Qcow2Verifier& verifier) {
  const auto version = static_cast<uint32_t>(verifier.version());
  if (!versions_.contains(version) || !refcount_orders_.contains(verifier.refcount_order()) ||
      !lazy_.contains(verifier.lazy_refcounts()) ||
      !backing_names_.contains(verifier.backing_file())) {
    find(fmt::format("the header says version {}, refcount order {}, {}lazy refcounts, and '{}'",
                     version, verifier.refcount_order(), verifier.lazy_refcounts() ? "" : "no ",
                     verifier.backing_file()));
  }
  plan_.shape.version = version;
  versions_ = {version};
  refcount_orders_ = {verifier.refcount_order()};
  lazy_ = {verifier.lazy_refcounts()};
  backing_names_ = {verifier.backing_file()};
}

void History::inspect_base() {
  base_changed_ = false;
  const std::size_t depth = below_.size() - 1;
  const std::string name = below_name(depth);
  const SparseBytes& file = world_.find(name)->disk.visible();
  std::vector<std::byte> guest;
  if (name.ends_with("raw")) {
    guest = file.read(0, file.size());
  } else {
    Qcow2Verifier verifier(file);
    const Qcow2Verifier::Report report = verifier.verify();
    guest.resize(verifier.guest_size());
    const auto read = verifier.read(0, guest, backing_reader(depth));
    if (!report.corruptions.empty() || !read) {
      find(fmt::format("the base is corrupt: {}",
                       read ? report.corruptions.front() : read.error().message()));
      return;
    }
  }
  ContentModel& below = *below_[depth];
  below.power_cut();
  if (!below.settle_length(guest.size())) {
    find(fmt::format("the base's length is {}, which it never was", guest.size()));
  } else if (const auto wrong = below.settle(0, guest)) {
    find(fmt::format("the base, {}", *wrong));
  }
}

}  // namespace cairn::testing
