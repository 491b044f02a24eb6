// What is found after a round: by the raw bytes, by the engine, and by qemu-img.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "schema/types_block_options.h"
#include "tests/sim/history.h"
#include "tests/support/qcow2_verifier.h"

namespace cairn::testing {

io::Task<void> History::inspect(const Round& round) {
  const bool clean = round.ending == Round::Ending::kClean && !failed_;
  if (world_.in_flight() != 0) {
    find("requests are in flight after closing");
    co_return;
  }
  // Closing a disk makes all of it durable; a power cut right afterwards loses nothing.
  if (clean && plan_.traits.keeps_flush) {
    model_->end_flush(model_->begin_flush());
  }
  if (world_.powered()) {
    world_.cut_power();
  }
  ++result_.states;
  world_.restore_power();
  world_.clear_faults();
  faults_before_ = world_.faults();
  model_->power_cut();
  world_.note("inspection");
  if (base_changed_) {
    inspect_base();
  }
  inspect_bytes(round.ending == Round::Ending::kClean && failed_ ? Round::Ending::kFaults
                                                                 : round.ending);
  if (!found()) {
    co_await inspect_by_engine();
  }
  if (dirty_ && !found()) {
    co_await repair();
  }
  if (options_.ask_qemu) {
    inspect_by_qemu();
  }
}

void History::inspect_bytes(Round::Ending ending) {
  const bool clean = ending == Round::Ending::kClean;
  const SparseBytes& file = world_.find(top_)->disk.visible();
  std::vector<std::byte> guest;
  if (plan_.format == Plan::Format::kRaw) {
    guest = file.read(0, file.size());
  } else {
    const SparseBytes* const data =
        plan_.shape.external_data() ? &world_.find(plan_.shape.data_file)->disk.visible() : nullptr;
    Qcow2Verifier verifier(file, data);
    const Qcow2Verifier::Report report = verifier.verify();
    if (!report.corruptions.empty()) {
      find(fmt::format("the image is corrupt ({} findings): {}", report.corruptions.size(),
                       report.corruptions.front()));
      return;
    }
    dirty_ = report.dirty;
    if (dirty_ && (clean || !lazy_.contains(true))) {
      find("the image is dirty");
      return;
    }
    if (clean && report.leaks > leaks_) {
      find(fmt::format("{} clusters leaked in a round that ended cleanly", report.leaks - leaks_));
      return;
    }
    leaks_ = report.leaks;
    leaks_in_file_ = report.leaks_in_file;
    guest.resize(verifier.guest_size());
    if (const auto read = verifier.read(0, guest, backing_reader(below_.size())); !read) {
      find(fmt::format("the image can not be read: {}", read.error().message()));
      return;
    }
    if (plan_.shape.data_file_raw && data->read(0, guest.size()) != guest) {
      find("the raw data file is not what the disk is");
      return;
    }
    inspect_snapshots(verifier);
    inspect_header(verifier);
    inspect_bitmaps(verifier, guest, ending);
  }
  if (!model_->settle_length(guest.size())) {
    find(fmt::format("the length is {}, which it never was", guest.size()));
    return;
  }
  if (const auto wrong = model_->settle(0, guest)) {
    find(fmt::format("after the round, {}", *wrong));
  }
}

std::function<void(uint64_t, std::span<std::byte>)> History::backing_reader(
    std::size_t depth) const {
  const ContentModel* below = depth == 0 ? nullptr : below_[depth - 1].get();
  return [below](uint64_t offset, std::span<std::byte> out) {
    std::ranges::fill(out, std::byte{0});
    if (below != nullptr && offset < below->length()) {
      below->expected(offset, out.first(std::min<uint64_t>(out.size(), below->length() - offset)));
    }
  };
}

// Those that there must be are there, no others, and each holds what the disk held then.
void History::inspect_snapshots(const Qcow2Verifier& verifier) {
  std::map<std::string, Snapshot> expected = std::exchange(snapshots_, {});
  for (const Qcow2Verifier::Snapshot& snapshot : verifier.snapshots()) {
    auto known = expected.extract(snapshot.name);
    if (known.empty()) {
      find(fmt::format("snapshot '{}' should not be there", snapshot.name));
      return;
    }
    Snapshot& kept = known.mapped();
    std::vector<std::byte> content(snapshot.size);
    const auto read = verifier.read(snapshot, 0, content, backing_reader(below_.size()));
    if (!read) {
      find(fmt::format("snapshot '{}': {}", snapshot.name, read.error().message()));
    } else if (!kept.content.settle_length(snapshot.size)) {
      find(fmt::format("snapshot '{}' has {} bytes, not {}", snapshot.name, snapshot.size,
                       kept.content.length()));
    } else if (const auto wrong = kept.content.settle(0, content)) {
      find(fmt::format("snapshot '{}': {}", snapshot.name, *wrong));
    }
    kept.certain = true;
    snapshots_.insert(std::move(known));
  }
  for (const auto& [name, snapshot] : expected) {
    if (snapshot.certain) {
      find(fmt::format("snapshot '{}' is lost", name));
    }
  }
}

// The engine must see the very same.
io::Task<void> History::inspect_by_engine() {
  const Result<void> opened = co_await open_top(false);
  if (!opened) {
    find(fmt::format("the image does not open: {}", opened.error().message()));
    co_return;
  }
  std::vector<std::byte> expected(model_->length());
  model_->expected(0, expected);
  std::vector<std::byte> seen(expected.size());
  const uint64_t step = 1 << 20;
  for (uint64_t offset = 0; offset < seen.size() && !found(); offset += step) {
    const auto part = std::span(seen).subspan(offset, std::min(step, seen.size() - offset));
    io::IoVector vector(part);
    const Result<void> read = co_await root_->read(offset, std::move(vector));
    if (!read) {
      find(fmt::format("after the round, reading at {} fails: {}", offset, read.error().message()));
    }
  }
  if (!found() && seen != expected) {
    const auto at = static_cast<uint64_t>(std::ranges::mismatch(seen, expected).in1 - seen.begin());
    find(fmt::format("the engine reads {} at {}, but the image holds {}",
                     describe_data(at, std::span(seen).subspan(at)), at,
                     describe_data(at, std::span(expected).subspan(at))));
  }
  compare_bitmaps();
  block::CheckOptions options;
  Result<block::CheckResult> checked = co_await root_->node().driver().check(options);
  if (!checked && checked.error().code() != ENOTSUP) {
    find(fmt::format("check fails: {}", checked.error().message()));
    // The check, like the peer's, does not look at clusters beyond the end of the file, which may
    // be counted after a power cut; the verifier does.
  } else if (checked && !dirty_ &&
             (checked->corruptions != 0 ||
              checked->leaks != static_cast<int64_t>(leaks_in_file_))) {
    find(fmt::format("check says {} corruptions and {} leaks instead of 0 and {}",
                     checked->corruptions, checked->leaks, leaks_in_file_));
  }
  co_await close_top();
}

// An image with lazy refcounts that was not closed. Its counts are wrong, and nothing else: with
// them repaired all is as it was.
io::Task<void> History::repair() {
  const schema::BlockdevOptions image = top_options();
  const block::OpenFlags to_repair{.check_only = true};
  Result<std::shared_ptr<block::Node>> node = co_await graph_.open(image, to_repair);
  if (!node) {
    find(fmt::format("the dirty image does not open: {}", node.error().message()));
    co_return;
  }
  block::CheckOptions options{.fix_leaks = true, .fix_errors = true};
  Result<block::CheckResult> repaired = co_await (*node)->driver().check(options);
  if (!repaired || repaired->corruptions != 0 || repaired->leaks != 0) {
    find(repaired ? "a dirty image is not sound after a repair" : repaired.error().message());
  }
  const Result<void> closed = co_await graph_.release(std::move(*node));
  if (!closed) {
    find(fmt::format("after a repair, closing fails: {}", closed.error().message()));
  }
  leaks_ = 0;
  if (!found()) {
    inspect_bytes(Round::Ending::kFaults);
  }
  if (!found() && (dirty_ || leaks_in_file_ != 0)) {
    find("a repair has left leaks, or the dirty bit");
  }
}

void History::save_images(const std::string& directory) {
  std::filesystem::create_directories(directory);
  std::vector<std::string> names = {top_};
  if (plan_.shape.external_data()) {
    names.push_back(plan_.shape.data_file);
  }
  for (unsigned depth = 0; depth < plan_.backing; ++depth) {
    names.push_back(below_name(depth));
  }
  for (const std::string& name : names) {
    if (const SimulatedFile* file = world_.find(name)) {
      const auto saved = file->disk.visible().save(fmt::format("{}/{}", directory, name));
      if (!saved) {
        find(saved.error().message());
      }
    }
  }
}

void History::inspect_by_qemu() {
  if (plan_.format == Plan::Format::kRaw) {
    return;
  }
  const auto directory = std::filesystem::temp_directory_path() /
                         fmt::format("cairn-sim-{}-{}", getpid(), options_.seed);
  save_images(directory);
  const std::string inside = fmt::format("cd {} && ", directory.string());
  // 3 stands for leaks alone.
  const int status =
      std::system(fmt::format("{}qemu-img check {} >check.log 2>&1", inside, top_).c_str());
  const int code = WEXITSTATUS(status);
  if (code != 0 && !(code == 3 && leaks_ > 0)) {
    find(fmt::format("qemu-img check ends with {}; see {}", code, directory.string()));
    return;
  }
  if (std::system(
          fmt::format("{}qemu-img convert -O raw {} seen >check.log 2>&1", inside, top_).c_str()) !=
      0) {
    find(fmt::format("qemu-img can not convert the image; see {}", directory.string()));
    return;
  }
  const auto seen = SparseBytes::load(directory / "seen");
  std::vector<std::byte> expected(model_->length());
  model_->expected(0, expected);
  if (!seen || seen->size() != expected.size() || seen->read(0, expected.size()) != expected) {
    find(fmt::format("qemu-img reads something else; see {}", directory.string()));
    return;
  }
  std::filesystem::remove_all(directory);
}

}  // namespace cairn::testing
